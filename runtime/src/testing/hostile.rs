//! A link that does whatever a network may do.
//!
//! It treats every worker as a process of its own, so that a message of the driver arrives at each of them at another time,
//! and it
//!
//! - delays messages, those of one sender in their order, those of different senders in any order;
//! - repeats the last messages of a sender, as after a connection that broke before they were acknowledged;
//! - holds messages back until several arrive together;
//! - delivers copies of messages with the number of another attempt;
//! - and now and then has a worker decline its part of a snapshot after it has written it, as on a disk that fills up. Not
//!   that of a last epoch, which would end the job.
//!
//! All decisions follow from a seed. Which message a decision applies to depends on the threads, so the same seed makes a
//! failure likely to occur again, not certain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_protocol::{Attempt, Epoch};

use crate::link::{Command, Connection, Inbox, Link, Report, ToDriver, ToProcess};

/// How many messages of a sender come again at most after a broken connection.
const UNACKNOWLEDGED: usize = 4;
/// The lane of a message that no worker has sent.
const NOBODY: u32 = u32::MAX;

/// The link of one attempt.
pub(crate) struct Hostile {
    random: Mutex<Random>,
    /// The last epoch, once it is triggered.
    last: Arc<AtomicU64>,
}

impl Hostile {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Mutex::new(Random(seed)), last: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Randomness for one connection.
    fn random(&self) -> Random {
        Random(self.random.lock().unwrap_or_else(PoisonError::into_inner).next())
    }
}

impl Link for Hostile {
    fn processes(&self, workers: usize) -> usize {
        workers
    }

    fn to_process(&self, inbox: Inbox<ToProcess>) -> Connection<ToProcess> {
        let (send, last) = (carry(self.random(), inbox), self.last.clone());
        Box::new(move |message| {
            if let Command::Trigger { epoch, last: true } = message.command {
                last.store(epoch.0, Ordering::Release);
            }
            send(message);
        })
    }

    fn to_driver(&self, inbox: Inbox<ToDriver>) -> Connection<ToDriver> {
        let (send, last) = (carry(self.random(), inbox), self.last.clone());
        let random = Mutex::new(self.random());
        Box::new(move |mut message| {
            let declines = random.lock().unwrap_or_else(PoisonError::into_inner).one_in(12);
            if let Report::Acked { slot, epoch, .. } = message.report
                && declines
                && epoch < Epoch(last.load(Ordering::Acquire))
            {
                let reason = "no space left on device (simulated)".to_owned();
                message.report = Report::Declined { slot, epoch, reason };
            }
            send(message);
        })
    }
}

/// A message that is sent over the link.
trait Message: Clone + Send + 'static {
    /// The sender, whose messages keep their order.
    fn sender(&self) -> u32;
    fn attempt(&mut self) -> &mut Attempt;
}

impl Message for ToProcess {
    fn sender(&self) -> u32 {
        0
    }

    fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }
}

impl Message for ToDriver {
    fn sender(&self) -> u32 {
        match self.report {
            Report::Ready(slot)
            | Report::SourcesEnded(slot)
            | Report::Acked { slot, .. }
            | Report::Declined { slot, .. }
            | Report::Published { slot, .. }
            | Report::Done(slot) => slot.0,
            Report::Partitions { .. } => NOBODY - 2,
            Report::Failed(_) => NOBODY - 1,
        }
    }

    fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }
}

/// Starts the thread of a connection. It ends when the sending end is dropped; messages that are under way then are lost,
/// as they are when a process ends.
fn carry<M: Message>(random: Random, inbox: Inbox<M>) -> Connection<M> {
    let (send, sent) = channel();
    let carrier = Carrier { random, inbox, lanes: BTreeMap::new() };
    std::thread::spawn(move || carrier.run(&sent));
    Box::new(move |message| drop(send.send(message)))
}

/// One connection.
struct Carrier<M> {
    random: Random,
    inbox: Inbox<M>,
    /// By sender.
    lanes: BTreeMap<u32, Lane<M>>,
}

/// The messages of one sender.
struct Lane<M> {
    /// Those under way, and when each arrives; in their order.
    under_way: VecDeque<(Instant, M)>,
    /// The last ones that were sent.
    unacknowledged: VecDeque<M>,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self { under_way: VecDeque::new(), unacknowledged: VecDeque::new() }
    }
}

impl<M: Message> Lane<M> {
    fn push(&mut self, at: Instant, message: M) {
        let at = self.under_way.back().map_or(at, |(before, _)| at.max(*before));
        self.under_way.push_back((at, message));
    }

    /// The messages that have arrived, or with `all` those that would have arrived behind them, too.
    fn arrived(&mut self, now: Instant, all: bool) -> Vec<M> {
        let due = self.under_way.iter().take_while(|(at, _)| *at <= now).count();
        let count = if all && due > 0 { self.under_way.len() } else { due };
        self.under_way.drain(..count).map(|(_, message)| message).collect()
    }
}

impl<M: Message> Carrier<M> {
    fn run(mut self, sent: &Receiver<M>) {
        loop {
            let fronts = self.lanes.values().filter_map(|lane| lane.under_way.front());
            let next = fronts.map(|(at, _)| *at).min();
            let message = match next {
                Some(at) => sent.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => sent.recv().map_err(RecvTimeoutError::from),
            };
            match message {
                Ok(message) => self.send(message),
                Err(RecvTimeoutError::Timeout) => self.deliver(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn send(&mut self, message: M) {
        let (arrives, repeats) = (self.arrival(), self.random.one_in(6));
        if self.random.one_in(8) {
            let mut stray = message.clone();
            let attempt = stray.attempt();
            attempt.0 = if self.random.one_in(2) { attempt.0 + 1 } else { attempt.0 - 1 };
            let at = self.arrival();
            self.lanes.entry(NOBODY).or_default().push(at, stray);
        }
        let lane = self.lanes.entry(message.sender()).or_default();
        lane.unacknowledged.push_back(message.clone());
        if lane.unacknowledged.len() > UNACKNOWLEDGED {
            lane.unacknowledged.pop_front();
        }
        lane.push(arrives, message);
        if repeats {
            let again: Vec<M> = lane.unacknowledged.iter().cloned().collect();
            let at = self.arrival();
            let lane = self.lanes.entry(again[0].sender()).or_default();
            again.into_iter().for_each(|message| lane.push(at, message));
        }
    }

    /// When a message arrives: mostly soon, sometimes later than messages that others send after it.
    fn arrival(&mut self) -> Instant {
        let longest = [300, 300, 1_000, 8_000][self.random.below(4)];
        Instant::now() + Duration::from_micros(self.random.below(longest) as u64)
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        let mut senders: Vec<u32> = self.lanes.keys().copied().collect();
        let first = self.random.below(senders.len().max(1));
        senders.rotate_left(first);
        for sender in senders {
            let together = self.random.one_in(3);
            let arrived = self.lanes.get_mut(&sender).map(|lane| lane.arrived(now, together));
            if let Some(messages) = arrived.filter(|messages| !messages.is_empty()) {
                (self.inbox)(messages);
            }
        }
    }
}

/// A generator of numbers that needs no crate: SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The seed of a job's runs. If the test panics, it prints the command that repeats the test with this seed.
#[derive(Debug)]
pub(crate) struct Seed {
    seed: u64,
    /// The runs so far; each has another link.
    runs: AtomicU64,
}

/// What chooses the link of all tests: `hostile:SEED`.
const VARIABLE: &str = "TIDEGATE_TEST_LINK";

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, runs: AtomicU64::new(0) }
    }

    /// The seed in the environment variable, if it is set.
    ///
    /// # Panics
    /// If the variable has another value.
    pub(crate) fn from_environment() -> Option<Self> {
        let value = std::env::var(VARIABLE).ok().filter(|value| !value.is_empty())?;
        let seed = value.strip_prefix("hostile:").and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| panic!("{VARIABLE}={value} is invalid; it must be hostile:SEED"));
        Some(Self::new(seed))
    }

    /// The link of the next run.
    pub(crate) fn link(&self) -> Hostile {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        Hostile::new(Random(self.seed ^ run.rotate_right(8)).next())
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, thread) = (self.seed, std::thread::current());
            let test = thread.name().unwrap_or_default();
            eprintln!(
                "the link was hostile, with the seed {seed}; the same again: {VARIABLE}=hostile:{seed} make test \
                 TEST={test}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::Slot;

    /// What arrives of a thousand messages of three workers.
    fn arrived(seed: u64) -> Vec<ToDriver> {
        let (tell, told) = channel();
        let link = Hostile::new(seed);
        let connection =
            link.to_driver(Box::new(move |messages| messages.into_iter().for_each(|m| drop(tell.send(m)))));
        for i in 0..1_000u64 {
            let (slot, reason) = (Slot(i as u32 % 3), String::new());
            let report = Report::Declined { slot, epoch: Epoch(i / 3), reason };
            connection(ToDriver { attempt: Attempt(7), report });
        }
        let mut all = Vec::new();
        while let Ok(message) = told.recv_timeout(Duration::from_millis(100)) {
            all.push(message);
        }
        all
    }

    #[test]
    fn nothing_is_lost_and_one_senders_messages_keep_their_order_but_for_repeats() {
        let all = arrived(1);
        let strays = all.iter().filter(|message| message.attempt != Attempt(7)).count();
        let ours: Vec<(u32, u64)> = all
            .iter()
            .filter(|message| message.attempt == Attempt(7))
            .map(|message| match message.report {
                Report::Declined { slot, epoch, .. } => (slot.0, epoch.0),
                ref other => panic!("{other:?}"),
            })
            .collect();
        for slot in 0..3 {
            let epochs: Vec<u64> = ours.iter().filter(|(s, _)| *s == slot).map(|(_, epoch)| *epoch).collect();
            let mut news = Vec::new();
            for epoch in epochs {
                let back = news.last().map_or(0, |last: &u64| last.saturating_sub(epoch));
                assert!(back < UNACKNOWLEDGED as u64, "slot {slot} goes back by {back}");
                if news.last().is_none_or(|last| *last < epoch) {
                    news.push(epoch);
                }
            }
            assert!(news.iter().copied().eq(0..(1_000 - u64::from(slot)).div_ceil(3)));
        }
        assert!(strays > 50 && ours.len() > 1_100, "{strays} strays, {} messages", ours.len());
        assert!(!ours.is_sorted_by_key(|(_, epoch)| *epoch), "no worker has overtaken another");
    }
}
