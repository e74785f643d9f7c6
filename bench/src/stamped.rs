//! Messages that carry the time at which they were produced, and when a reader of committed messages saw them.
//!
//! Both are taken in this process from one monotonic clock.

use crate::Result;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often messages are sent.
const TICK: Duration = Duration::from_millis(1);
/// Bytes of a message.
const BYTES: usize = 107;
const PATIENCE: Duration = Duration::from_secs(30);

/// A message that was seen, by times since the clock began.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When it was produced.
    pub produced: Duration,
    /// When it was seen.
    pub seen: Duration,
}

/// A producer and a reader, each on a thread of its own until this is dropped.
pub struct Stamped {
    clock: Instant,
    ends: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Stamped {
    /// Begins to write to the partitions of `input` at a rate a second, and to read those of `output` from their ends.
    pub fn start(bootstrap: &str, input: &str, output: &str, partitions: i32, rate: u64) -> Result<Stamped> {
        let (clock, ends, seen) = (Instant::now(), Arc::default(), Arc::<Mutex<Vec<Seen>>>::default());
        let consumer = consumer(bootstrap, output, partitions)?;
        let producer = producer(bootstrap)?;
        let (ended, into) = (Arc::clone(&ends), Arc::clone(&seen));
        let reads = thread::spawn(move || read(&consumer, clock, &ended, &into));
        let (ended, topic) = (Arc::clone(&ends), input.to_owned());
        let writes = thread::spawn(move || write(&producer, &topic, partitions, rate, clock, &ended));
        Ok(Stamped { clock, ends, seen, threads: vec![reads, writes] })
    }

    /// The time on the clock.
    pub fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Takes what was seen since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a message was seen; `is_alive` is asked meanwhile.
    pub fn until_seen(&self, patience: Duration, mut is_alive: impl FnMut() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        while self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            is_alive()?;
            if self.threads.iter().any(JoinHandle::is_finished) {
                return Err("the producer or the reader has ended".into());
            }
            if began.elapsed() > patience {
                return Err(format!("no message became visible in {} s", patience.as_secs()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends both threads; an error of theirs is returned.
    pub fn end(mut self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self
            .threads
            .drain(..)
            .map(|thread| thread.join().map_err(|_| "a client has panicked".to_owned())?);
        ended.collect()
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn producer(bootstrap: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "0")
        .set("enable.idempotence", "true")
        .set("delivery.report.only.error", "true");
    config.create().map_err(|e| e.to_string())
}

fn consumer(bootstrap: &str, topic: &str, partitions: i32) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "bench").set("enable.auto.commit", "false");
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().map_err(|e| e.to_string())?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        let (_, end) =
            consumer.fetch_watermarks(topic, partition, PATIENCE).map_err(|e| format!("{topic}: {e}"))?;
        all.add_partition_offset(topic, partition, Offset::Offset(end)).map_err(|e| e.to_string())?;
    }
    consumer.assign(&all).map_err(|e| e.to_string())?;
    Ok(consumer)
}

/// The time since the clock's beginning stands in front of a message, in nanoseconds.
fn write(
    producer: &BaseProducer,
    topic: &str,
    partitions: i32,
    rate: u64,
    clock: Instant,
    ends: &AtomicBool,
) -> Result<()> {
    let (began, mut sent, mut value, mut partition) = (Instant::now(), 0_u64, [b' '; BYTES], 0);
    while !ends.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        let now = clock.elapsed().as_nanos() as u64;
        value[..8].copy_from_slice(&now.to_le_bytes());
        while sent < due {
            let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(&value);
            match producer.send(record) {
                Ok(()) => sent += 1,
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) => break,
                Err((error, _)) => return Err(format!("{topic}: {error}")),
            }
        }
        partition = (partition + 1) % partitions;
        producer.poll(Duration::ZERO);
        thread::sleep(TICK);
    }
    producer.flush(PATIENCE).map_err(|e| format!("{topic}: {e}"))
}

fn read(consumer: &BaseConsumer, clock: Instant, ends: &AtomicBool, into: &Mutex<Vec<Seen>>) -> Result<()> {
    while !ends.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let seen = clock.elapsed();
                let stamp = message.payload().and_then(|value| value.first_chunk::<8>());
                let stamp = stamp.ok_or("a message has no time in front of it")?;
                let produced = Duration::from_nanos(u64::from_le_bytes(*stamp));
                into.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { produced, seen });
            }
            Some(Err(error)) => return Err(format!("the reader of the output: {error}")),
            None => {}
        }
    }
    Ok(())
}
