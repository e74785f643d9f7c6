//! How many records are given to user code at a time.
//!
//! A record costs a microsecond or, in user code that is slow, twenty milliseconds. Nothing else has its turn while a
//! batch is under way, not a barrier either, so batches become smaller the longer a record takes. The first ones are small:
//! nothing is known of the code yet.

use std::time::Duration;

use super::batch::BATCH_RECORDS;

/// How long a batch should take at most.
const BATCH_TIME: Duration = Duration::from_millis(5);
/// Records of the first batch.
const FIRST: usize = 8;

/// The size of the next batch.
#[derive(Debug)]
pub(crate) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    /// Records of the next batch, from 1 to [`BATCH_RECORDS`].
    pub(crate) fn records(&self) -> usize {
        self.0
    }

    /// So many records took so long.
    pub(crate) fn took(&mut self, records: usize, took: Duration) {
        if took > BATCH_TIME {
            let ratio = BATCH_TIME.as_secs_f64() / took.as_secs_f64();
            self.0 = ((records as f64 * ratio) as usize).clamp(1, self.0);
        } else if records >= self.0 && took < BATCH_TIME / 2 {
            self.0 = (self.0 * 2).min(BATCH_RECORDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_as_large_as_what_is_done_in_their_time() {
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
    fn a_small_batch_says_nothing_of_a_large_one() {
        let mut pace = Pace::default();
        pace.took(1, Duration::from_micros(1));
        assert_eq!(pace.records(), FIRST);
    }
}
