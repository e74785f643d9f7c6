//! A reader of committed messages that reads topics all the time, beside a second one that looks for how long it is blocked.

use crate::failure::{Context, Failure, Result};
use crate::topics::blocked::Blocked;
use crate::topics::{self, ANSWER, POLL, Partitions, Topics};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often is looked for what blocks a reader.
const LOOK: Duration = Duration::from_millis(10);

/// Reads on threads of its own.
pub struct Follower {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    is_disturbed: AtomicBool,
    seen: Mutex<Vec<Partitions>>,
    blocked: Mutex<Blocked>,
    failure: Mutex<Option<String>>,
}

/// A topic with the number of its partitions.
pub type Topic = (String, usize);

impl Follower {
    /// Begins to read these topics, from their beginning.
    pub fn start(topics: &Topics, names: &[Topic]) -> Result<Follower> {
        let shared = Arc::new(Shared::default());
        *lock(&shared.seen) = names.iter().map(|(topic, count)| topics::empty(topic, *count)).collect();
        let mut follower = Follower { shared, threads: Vec::new() };
        follower.spawn("follower", topics, names, read)?;
        follower.spawn("gauge", topics, names, gauge)?;
        Ok(follower)
    }

    fn spawn(
        &mut self,
        thread: &str,
        topics: &Topics,
        names: &[Topic],
        work: fn(&Topics, &[Topic], &Shared) -> Result<()>,
    ) -> Result<()> {
        let (shared, topics, names) = (self.shared.clone(), topics.clone(), names.to_vec());
        let run = move || {
            let done = topics.enter().and_then(|()| work(&topics, &names, &shared));
            if let Err(failure) = done {
                lock(&shared.failure).get_or_insert(failure.to_string());
            }
        };
        let spawned = std::thread::Builder::new().name(thread.to_owned()).spawn(run);
        self.threads.push(spawned.context("cannot start a reader")?);
        Ok(())
    }

    /// Waits count as disturbed from now on, or do not.
    pub fn disturbed(&self, is_disturbed: bool) {
        self.shared.is_disturbed.store(is_disturbed, Ordering::Relaxed);
    }

    /// Looks at all that has been read, in the order of the topics.
    pub fn with_seen<T>(&self, look: impl FnOnce(&[Partitions]) -> T) -> Result<T> {
        if let Some(failure) = &*lock(&self.shared.failure) {
            return Err(Failure::new(failure.clone()));
        }
        Ok(look(&lock(&self.shared.seen)))
    }

    /// For how long readers were blocked so far.
    pub fn blocked(&self) -> Blocked {
        lock(&self.shared.blocked).clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn read(topics: &Topics, names: &[Topic], shared: &Shared) -> Result<()> {
    let consumer = topics.consumer("read_committed")?;
    let all: Vec<(&str, usize)> = names.iter().map(|(topic, count)| (topic.as_str(), *count)).collect();
    topics::assign(&consumer, &all)?;
    while !shared.ends.load(Ordering::Relaxed) {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                if let Some(number) = names.iter().position(|(topic, _)| topic == message.topic()) {
                    topics::add(&mut lock(&shared.seen)[number], message.partition(), message.payload());
                }
            }
            // What was read is not there any more.
            Some(Err(KafkaError::MessageConsumption(
                code @ (Code::OffsetOutOfRange | Code::AutoOffsetReset),
            ))) => {
                return Err(Failure::new(format!(
                    "a reader of committed messages has lost its place: {code}"
                )));
            }
            // The brokers are away, or there is nothing new.
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

fn gauge(topics: &Topics, names: &[Topic], shared: &Shared) -> Result<()> {
    let (stable, high) = (topics.consumer("read_committed")?, topics.consumer("read_uncommitted")?);
    let all: Vec<(usize, &str, i32)> = names
        .iter()
        .enumerate()
        .flat_map(|(number, (topic, count))| {
            (0..*count).map(move |partition| (number, topic.as_str(), partition as i32))
        })
        .collect();
    while !shared.ends.load(Ordering::Relaxed) {
        for (number, topic, partition) in &all {
            let high = end(&high, topic, *partition);
            let stable = high.and_then(|high| Some((end(&stable, topic, *partition)?, high)));
            let is_disturbed = shared.is_disturbed.load(Ordering::Relaxed);
            let mut blocked = lock(&shared.blocked);
            match stable {
                Some(ends) => blocked.look((*number, *partition), ends, Instant::now(), is_disturbed),
                None => blocked.unanswered(),
            }
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The end of a partition for a consumer of its isolation level; None if the brokers do not answer.
fn end(consumer: &BaseConsumer, topic: &str, partition: i32) -> Option<i64> {
    consumer.fetch_watermarks(topic, partition, ANSWER).ok().map(|(_, end)| end)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
