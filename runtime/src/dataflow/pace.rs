//! How many records are given to user code at a time.
//!
//! A record takes a microsecond or, in slow user code, twenty milliseconds. Nothing else is scheduled while a batch is
//! processed, not even a barrier, so batches become smaller the longer a record takes. The first batch is a single record,
//! because nothing is known of the code yet.
//!
//! Records that wait in front of the code are processed before a barrier, too. So a sender of results that could wait
//! limits them to the number that is processed in a short time ([`Pace::backlog`]).

use std::time::Duration;

/// The number of records that a full batch holds.
pub(crate) const BATCH_RECORDS: usize = 256;
/// How long a batch should take at most.
const BATCH_TIME: Duration = Duration::from_millis(5);
/// Batches that may wait in front of the code.
const BACKLOG_BATCHES: usize = 16;
/// For how long the code should be busy with waiting records if a single record takes longer than a batch should.
const BACKLOG_TIME: Duration = Duration::from_millis(40);

/// The size of the next batch.
#[derive(Debug)]
pub(crate) struct Pace {
    records: usize,
    /// How long the last batch took, if it was a single record.
    record_took: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { records: 1, record_took: BACKLOG_TIME }
    }
}

impl Pace {
    /// Records of the next batch, from 1 to [`BATCH_RECORDS`].
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Records that may wait for their turn.
    pub(crate) fn backlog(&self) -> usize {
        if self.records > 1 {
            return BACKLOG_BATCHES * self.records;
        }
        let records = BACKLOG_TIME.as_secs_f64() / self.record_took.as_secs_f64().max(1e-6);
        (records as usize).clamp(1, BACKLOG_BATCHES)
    }

    /// Adjusts the batch size: `records` records took the time `took`.
    pub(crate) fn took(&mut self, records: usize, took: Duration) {
        if records == 0 {
            return;
        }
        if records == 1 {
            self.record_took = took;
        }
        if took > BATCH_TIME {
            let ratio = BATCH_TIME.as_secs_f64() / took.as_secs_f64();
            self.records = ((records as f64 * ratio) as usize).clamp(1, self.records);
        } else if records >= self.records && took < BATCH_TIME / 2 {
            self.records = (self.records * 2).min(BATCH_RECORDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_number_of_records_that_fit_into_its_time() {
        let mut pace = Pace::default();
        let mut run = |micros: u64, batches: usize| {
            for _ in 0..batches {
                pace.took(pace.records(), Duration::from_micros(micros * pace.records() as u64));
            }
            pace.records()
        };
        assert_eq!(run(1, 10), BATCH_RECORDS);
        assert_eq!(run(20_000, 1), 1, "a slow step is noticed after one batch");
        assert_eq!(run(20_000, 10), 1);
        let records = run(100, 10);
        assert!((25..=50).contains(&records), "{records} records of 0.1 ms");
    }

    #[test]
    fn a_batch_below_the_current_size_does_not_enlarge_it() {
        let mut pace = Pace::default();
        pace.took(1, Duration::from_micros(1));
        assert_eq!(pace.records(), 2);
        pace.took(1, Duration::from_micros(1));
        assert_eq!(pace.records(), 2);
    }

    #[test]
    fn the_backlog_is_processed_in_a_short_time() {
        let backlog = |micros: u64| {
            let mut pace = Pace::default();
            for _ in 0..20 {
                pace.took(pace.records(), Duration::from_micros(micros * pace.records() as u64));
            }
            pace.backlog()
        };
        assert_eq!(Pace::default().backlog(), 1, "nothing is known of the code yet");
        assert_eq!(backlog(1), BACKLOG_BATCHES * BATCH_RECORDS);
        assert_eq!((backlog(4_000), backlog(20_000), backlog(1_000_000)), (10, 2, 1));
        for micros in [10, 100, 1_000, 2_000, 3_000, 20_000] {
            let time = Duration::from_micros(micros * backlog(micros) as u64);
            assert!(
                time <= BATCH_TIME * BACKLOG_BATCHES as u32,
                "{time:?} at {micros} microseconds a record"
            );
        }
    }
}
