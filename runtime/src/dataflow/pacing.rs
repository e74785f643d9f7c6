//! The loop of an operator chain that reads a source: polling, ticks, triggers.
//!
//! A tick ends after a number of records, or after a millisecond if there were fewer, and a source never has more than
//! [`TICKS_IN_FLIGHT`] unfinished ticks in flight. That bounds the records in flight, and so the time that a barrier takes, without
//! messages between sender and receiver. A record may cost a microsecond or a read from disk, so the number of records per
//! tick follows from the duration of the ticks before. Where a single record takes longer than a tick should, the number of
//! ticks in flight follows from it too. A record may have a hundred bytes or a million, so a tick also ends after a number
//! of bytes.
//!
//! A tick is finished when every source has passed it. So the sources of a process share a logical clock, like Lamport's: a
//! new tick is higher than the highest that any source has reached, and a source without records follows. Otherwise a
//! source with little to read would hold up all others.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use timely::dataflow::ProbeHandle;

use super::operator_chain::guarded;
use super::pace::Pace;
use super::running::Running;
use super::timestamp::{Timestamp, epoch_of, next_tick, start_of};
use tidegate_protocol::Result;

/// The least and the largest number of records that end a tick. Ticks begin with the least, because nothing is known of the
/// steps yet.
const TICK_RECORDS: (usize, usize) = (1, 10_000);
/// Bytes, as the connector reports them, that end a tick.
const TICK_BYTES: usize = 1 << 20;
/// How long a tick may take to be finished, with those before it: a barrier takes little more.
const TICK_LATENCY: Duration = Duration::from_millis(15);
/// Time after which a tick ends that has any records.
const TICK_TIME: Duration = Duration::from_millis(1);
/// Unfinished ticks that may be in flight.
const TICKS_IN_FLIGHT: usize = 4;
/// How long a tick of the least size, with those before it, may take before the number of ticks in flight is reduced.
const SLOW_LATENCY: Duration = Duration::from_millis(80);
/// For how long a source reads before other operators of the worker are scheduled.
const ROUND_TIME: Duration = Duration::from_millis(5);
/// Polls in one call by timely.
const POLLS_A_ROUND: usize = 4;
/// How long to wait for ticks to be finished.
const WAIT_FOR_WINDOW: Duration = Duration::from_micros(100);
/// How long to wait until the rows of the previous barrier are copied.
const WAIT_FOR_COPIES: Duration = Duration::from_millis(1);
/// How long to wait before a source that had nothing new is polled again: at first, and at most.
const WAIT_FOR_INPUT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The result of a poll of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// Records were read: their number, malformed ones included, and their size in bytes. There may be more.
    Read { records: usize, bytes: usize },
    /// No partition has anything to read now, or reading has been stopped.
    CaughtUp,
    /// Every partition was read to its end, and there will be no others.
    Ended,
}

/// A source without timely: polls its partitions and pushes what it reads through the chain.
pub(crate) trait SourceLoop {
    /// Reads about `budget` records of one partition and pushes them through the chain.
    fn poll(&mut self, budget: usize) -> Result<Poll>;

    /// Emits the current watermark into the chain.
    fn advance_watermark(&mut self);

    /// Decides which partitions are idle, and announces to the chain what counts from the next epoch on.
    fn announce(&mut self);

    /// Called once when the source has ended.
    fn ended(&mut self);
}

/// A source operator chain at run time.
pub(crate) struct Pacing {
    running: Running,
    source: Box<dyn SourceLoop>,
    probe: ProbeHandle<Timestamp>,
    /// The running tick.
    time: Timestamp,
    /// Records that end a tick.
    tick_records: usize,
    /// Ticks of the least size that may be in flight.
    slow_window: usize,
    /// Ticks that were sent and are not known to be finished, and when they were sent.
    open: VecDeque<(Timestamp, Instant)>,
    /// Records in the running tick, their bytes, and when it began.
    records: usize,
    bytes: usize,
    began: Instant,
    wait: Duration,
    /// How many records are requested from a partition at a time.
    pace: Pace,
    ended: bool,
    /// Since when the window is full.
    blocked: Option<Instant>,
}

impl Pacing {
    pub(crate) fn new(running: Running, source: Box<dyn SourceLoop>, probe: ProbeHandle<Timestamp>) -> Self {
        Self {
            running,
            source,
            probe,
            time: start_of(0),
            tick_records: TICK_RECORDS.0,
            slow_window: 1,
            open: VecDeque::with_capacity(TICKS_IN_FLIGHT),
            records: 0,
            bytes: 0,
            began: Instant::now(),
            wait: WAIT_FOR_INPUT.0,
            pace: Pace::default(),
            ended: false,
            blocked: None,
        }
    }

    /// What timely calls.
    pub(crate) fn schedule(&mut self) {
        let process = &self.running.chain.worker.process;
        if process.driver.is_aborted() || self.running.capabilities.is_empty() {
            return;
        }
        let chain = self.running.chain.clone();
        guarded(&chain, || self.round());
    }

    fn round(&mut self) -> Result<()> {
        self.running.go_on_copying()?;
        self.end_epochs()?;
        if self.running.capabilities.is_empty() {
            return Ok(());
        }
        self.follow();
        let began = Instant::now();
        for _ in 0..POLLS_A_ROUND {
            if (self.is_tick_full() && !self.tick()) || self.waits_to_read() {
                self.running.alarm.after(WAIT_FOR_WINDOW);
                return Ok(());
            }
            match self.poll()? {
                Poll::Read { records, bytes } => self.have_read(records, bytes),
                Poll::CaughtUp => return self.rest(),
                Poll::Ended => return self.end(),
            }
            if self.is_triggered() || began.elapsed() > ROUND_TIME {
                break;
            }
        }
        self.running.flush(false);
        self.running.alarm.now();
        Ok(())
    }

    /// True if the running epoch is to be ended.
    fn is_triggered(&self) -> bool {
        self.running.chain.worker.instructions().triggered() >= self.running.job_epoch()
    }

    fn poll(&mut self) -> Result<Poll> {
        if self.ended {
            return Ok(Poll::Ended);
        }
        if self.running.chain.worker.instructions().is_to_stop_reading() {
            return Ok(Poll::CaughtUp);
        }
        let began = Instant::now();
        let poll = self.source.poll(self.pace.records().min(self.tick_records))?;
        if let Poll::Read { records, .. } = poll {
            self.pace.took(records, began.elapsed());
        }
        Ok(poll)
    }

    /// The number of ticks that may be in flight; it is adjusted where a single record takes as long as a tick should.
    fn window(&self) -> usize {
        if self.tick_records > TICK_RECORDS.0 { TICKS_IN_FLIGHT } else { self.slow_window }
    }

    /// Adjusts the size of ticks: a tick, with those before it, took the time `took` and held the source up.
    fn resize(&mut self, took: Duration) {
        if self.tick_records == TICK_RECORDS.0 {
            self.slow_window = resized_window(self.slow_window, took);
        }
        self.tick_records = resized(self.tick_records, took);
    }

    /// True if no operator of this worker still copies rows of an earlier barrier: only one barrier may be under way at a
    /// time. The barrier of every operator chain depends on a source of this worker, so none overtakes another.
    fn is_epoch_before_collected(&self) -> bool {
        self.running.chain.worker.barriers.under_way().is_none_or(|epoch| epoch >= self.running.job_epoch())
    }

    fn is_tick_full(&self) -> bool {
        self.records >= self.tick_records || self.bytes >= TICK_BYTES
    }

    fn have_read(&mut self, records: usize, bytes: usize) {
        if self.records == 0 {
            self.began = Instant::now();
        }
        self.records += records;
        self.bytes = self.bytes.saturating_add(bytes);
        self.wait = WAIT_FOR_INPUT.0;
        if !self.is_tick_full() && self.began.elapsed() >= TICK_TIME {
            self.tick();
        }
    }

    /// True if the source should not read yet: where a record takes long, a record that was read and may not be sent delays
    /// a barrier as much as one in flight.
    fn waits_to_read(&mut self) -> bool {
        self.records == 0 && self.tick_records == TICK_RECORDS.0 && self.is_held_up()
    }

    /// True if no further tick may be in flight. Otherwise the duration of the finished ticks determines the size of the
    /// next ones.
    fn is_held_up(&mut self) -> bool {
        let took = self.finish_ticks();
        if self.open.len() >= self.window() {
            if self.blocked.is_none() {
                self.blocked = Some(Instant::now());
                self.running.chain.worker.process.shared.is_held_up();
            }
            return true;
        }
        if let Some(since) = self.blocked.take() {
            self.running.chain.add_blocked(since.elapsed());
            // Only if the source was held up is the duration that of the operators, and not its own.
            took.into_iter().for_each(|took| self.resize(took));
        } else if let Some(took) = took.filter(|_| self.records >= self.tick_records) {
            self.tick_records = self.tick_records.max(resized(self.tick_records, took));
        }
        false
    }

    /// Ends the running tick if the window allows it: emits watermarks behind the records and sends everything.
    fn tick(&mut self) -> bool {
        if self.is_held_up() {
            return false;
        }
        self.source.advance_watermark();
        self.running.flush(true);
        self.send_tick();
        self.advance_tick();
        true
    }

    /// Notes that the records of the running tick have been sent.
    fn send_tick(&mut self) {
        self.open.push_back((self.time, Instant::now()));
        (self.records, self.bytes) = (0, 0);
    }

    /// Forgets the ticks that are finished; returns how long the last of them took.
    fn finish_ticks(&mut self) -> Option<Duration> {
        let mut took = None;
        while let Some((_, sent)) = self.open.front().filter(|(time, _)| !self.probe.less_equal(time)) {
            took = Some(sent.elapsed());
            self.open.pop_front();
        }
        took
    }

    /// Advances beyond the tick that was sent, and beyond those of all other sources.
    fn advance_tick(&mut self) {
        self.running.chain.worker.process.shared.reached(next_tick(self.time));
        self.follow();
    }

    /// Advances to the highest tick of all sources, unless there are records to be sent before.
    fn follow(&mut self) {
        let highest = self.running.chain.worker.process.shared.highest_tick();
        if self.records == 0 && highest > self.time && epoch_of(highest) == epoch_of(self.time) {
            self.time = highest;
            self.running.downgrade(highest);
        }
    }

    /// There is nothing to read now: sends what was read, and polls the source again a little later.
    fn rest(&mut self) -> Result<()> {
        if self.records > 0 && !self.tick() {
            self.running.alarm.after(WAIT_FOR_WINDOW);
            return Ok(());
        }
        self.follow();
        // A partition that has ended may have changed the watermark without a record.
        self.source.advance_watermark();
        self.running.flush(true);
        self.running.alarm.after(self.wait);
        self.wait = (self.wait * 2).min(WAIT_FOR_INPUT.1);
        Ok(())
    }

    /// The source has ended; from here on it only ends epochs, up to the last one.
    fn end(&mut self) -> Result<()> {
        if !self.ended {
            self.ended = true;
            self.source.ended();
            self.running.flush(true);
            // The last tick ends here: others must not wait for it to fill.
            (self.records, self.bytes) = (0, 0);
            self.advance_tick();
            self.running.chain.worker.chain_ended();
        }
        Ok(())
    }

    /// Ends every epoch up to the triggered one. Several triggers may have arrived together, and a source that has ended is
    /// not woken again for the second one.
    fn end_epochs(&mut self) -> Result<()> {
        while !self.running.capabilities.is_empty() && self.is_triggered() {
            if !self.is_epoch_before_collected() {
                self.running.alarm.after(WAIT_FOR_COPIES);
                break;
            }
            self.end_epoch()?;
        }
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<()> {
        self.source.advance_watermark();
        self.source.announce();
        self.running.end_epoch()?;
        if self.records > 0 {
            self.send_tick();
        }
        self.time = start_of(self.running.epoch);
        Ok(())
    }
}

/// The number of records that a tick should have if one with `records` records took the time `took`: at most twice as many,
/// and at least half of them.
fn resized(records: usize, took: Duration) -> usize {
    let ratio = TICK_LATENCY.as_secs_f64() / took.as_secs_f64().max(1e-6);
    let (least, most) = TICK_RECORDS;
    ((records as f64 * ratio.clamp(0.5, 2.0)) as usize).clamp(least, most)
}

/// The number of ticks of the least size that should be in flight if a tick took the time `took` with `ticks` in flight.
fn resized_window(ticks: usize, took: Duration) -> usize {
    if took > SLOW_LATENCY {
        (ticks - 1).max(1)
    } else if took < SLOW_LATENCY / 2 {
        (ticks + 1).min(TICKS_IN_FLIGHT)
    } else {
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_has_the_number_of_records_that_fit_into_its_time() {
        let ms = Duration::from_millis;
        assert_eq!(resized(1_000, TICK_LATENCY), 1_000);
        assert_eq!(resized(1_000, TICK_LATENCY * 4 / 3), 750);
        assert_eq!((resized(1_000, ms(10_000)), resized(1_000, Duration::ZERO)), (500, 2_000));
        let (least, most) = TICK_RECORDS;
        // Whatever a record costs, it takes a few steps to the right size.
        for micros in [0.1, 1.0, 20.0, 500.0] {
            let took = |records: usize| Duration::from_secs_f64(4.0 * records as f64 * micros * 1e-6);
            let size = (0..14).fold(least, |records, _| resized(records, took(records)));
            let right = TICK_LATENCY.as_secs_f64() / (4.0 * micros * 1e-6);
            assert_eq!(size, (right as usize).clamp(least, most), "at {micros} microseconds a record");
        }
    }

    #[test]
    fn few_ticks_are_in_flight_where_a_record_takes_long() {
        for (micros, right) in [(5_000, TICKS_IN_FLIGHT), (20_000, 2), (50_000, 1), (200_000, 1)] {
            let took = |ticks: usize| Duration::from_micros(micros * ticks as u64);
            for first in 1..=TICKS_IN_FLIGHT {
                let ticks = (0..8).fold(first, |ticks, _| resized_window(ticks, took(ticks)));
                let time = took(ticks);
                assert!(time <= SLOW_LATENCY || ticks == 1, "{time:?} for {ticks} ticks");
                assert!(ticks >= right, "{ticks} ticks at {micros} microseconds a record");
            }
        }
    }
}
