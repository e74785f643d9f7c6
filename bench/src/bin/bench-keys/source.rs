//! The updates: made up as they are polled, the same after a restart as before.

use crate::backlog::Hours;
use crate::zipf::Zipf;
use crate::{Args, Kept, Update};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::connector::{PartitionStatus, Polled, Position, Source, SourceReader};
use tidegate::{Error, Result};

/// The partition that trickles.
const TRICKLE: &str = "trickle";
/// Its updates a second.
const TRICKLE_RATE: f64 = 10.0;
/// Scatters numbers: keys that are updated one after the other lie far apart.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of updates.
pub(crate) struct Updates {
    args: Args,
}

impl Updates {
    pub(crate) fn new(args: &Args) -> Updates {
        Updates { args: args.clone() }
    }
}

impl Source for Updates {
    type Item = Update;

    fn uri(&self) -> Result<String> {
        Ok(format!("{} synthetic keys", self.args.keys))
    }

    fn partitions(&self) -> Result<Vec<String>> {
        let full = (0..self.args.partitions).map(|n| n.to_string());
        Ok(full.chain(self.args.trickle.then(|| TRICKLE.to_owned())).collect())
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<Update>>> {
        let drawn = self.args.draw.map(|exponent| Arc::new(Zipf::new(self.args.keys as usize, exponent)));
        Ok(Box::new(Parts { args: self.args.clone(), drawn, open: Vec::new() }))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn follow(&mut self) {}

    fn has_more(&self, _: &str, _: &Position) -> Result<bool> {
        Ok(false)
    }
}

/// The partitions of one worker.
struct Parts {
    args: Args,
    drawn: Option<Arc<Zipf>>,
    open: Vec<Part>,
}

impl SourceReader<Update> for Parts {
    fn open(&mut self, partition: &str, position: Option<&Position>) -> Result<()> {
        let sent = position.and_then(Position::as_u64).unwrap_or(0);
        let time = Duration::from_secs_f64(self.args.seconds);
        let most = self.args.updates.map_or(u64::MAX, |updates| updates / self.args.partitions);
        let (first, keys, rate, hours) = if partition == TRICKLE {
            (0, 0, TRICKLE_RATE, None)
        } else {
            let number: u64 = partition.parse().map_err(|_| Error::job("no such partition"))?;
            let hours = matches!(self.args.kept, Kept::Hours)
                .then(|| self.args.backlog.hours(number, self.args.keys, self.args.partitions));
            let share = self.args.keys / self.args.partitions;
            let (first, keys) =
                hours.as_ref().map_or((number * share, share), |hours| (hours.first_key, hours.keys));
            (first, keys, self.args.rate as f64 / self.args.partitions as f64, hours)
        };
        let most = hours.as_ref().map_or(most, Hours::updates);
        let drawn = self.drawn.clone();
        self.open.push(Part { first, keys, rate, time, most, hours, sent, drawn, churning: None });
        Ok(())
    }

    fn poll(&mut self, partition: usize, out: &mut Polled<Update>, budget: usize) -> Result<PartitionStatus> {
        Ok(self.open[partition].poll(out, budget))
    }

    fn position(&self, partition: usize) -> Position {
        self.open[partition].sent.into()
    }
}

/// One partition: the keys `first..first + keys`.
struct Part {
    first: u64,
    keys: u64,
    /// Updates a second once all keys were touched; 0 for no limit.
    rate: f64,
    time: Duration,
    /// Updates in all.
    most: u64,
    /// The part of the backlog that it holds.
    hours: Option<Hours>,
    sent: u64,
    /// What its keys are drawn from, if they are.
    drawn: Option<Arc<Zipf>>,
    /// When all keys had been touched, and what was sent by then.
    churning: Option<(Instant, u64)>,
}

impl Part {
    fn update(&mut self) -> Update {
        if let Some(drawn) = &self.drawn {
            let at = self.sent;
            self.sent += 1;
            return Update { key: drawn.draw(self.first ^ at.rotate_left(20)), at, churn: false };
        }
        let (round, n) = (self.sent / self.keys.max(1), self.sent % self.keys.max(1));
        let key = if round == 0 { n } else { n.wrapping_mul(SCATTER | 1) % self.keys.max(1) };
        let at = self.hours.as_ref().map_or(self.sent, |hours| hours.time(self.sent));
        self.sent += 1;
        Update { key: self.first + key, at, churn: round > 0 }
    }

    /// How many updates may be sent now, or None if the time is over.
    fn due(&mut self) -> Option<u64> {
        if self.sent < self.keys && self.drawn.is_none() {
            return Some(self.keys - self.sent);
        }
        let (since, before) = *self.churning.get_or_insert((Instant::now(), self.sent));
        let age = since.elapsed();
        if age >= self.time || self.sent >= self.most {
            return None;
        }
        let limit = if self.rate == 0.0 { u64::MAX } else { (age.as_secs_f64() * self.rate) as u64 };
        Some(limit.saturating_sub(self.sent - before).min(self.most - self.sent))
    }

    fn poll(&mut self, out: &mut Polled<Update>, budget: usize) -> PartitionStatus {
        let Some(due) = self.due() else { return PartitionStatus::Ended };
        for _ in 0..due.min(budget as u64) {
            let offset = self.sent;
            let update = self.update();
            out.record(offset, update);
        }
        if due > budget as u64 { PartitionStatus::More } else { PartitionStatus::CaughtUp }
    }
}
