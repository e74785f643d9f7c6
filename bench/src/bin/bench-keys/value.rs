//! A value of a given size.

use crate::Update;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use tidegate::Aggregate;

/// Bytes that a count takes in the state store, at most.
const COUNT_BYTES: usize = 3;

/// Counts the updates of a key, and carries bytes along that do not compress.
pub(crate) struct Value {
    filler: usize,
    seed: Cell<u64>,
}

impl Value {
    pub(crate) fn of(bytes: usize) -> Value {
        Value {
            filler: bytes.saturating_sub(size_of::<u64>() + COUNT_BYTES),
            seed: Cell::new(0x2545_f491_4f6c_dd1d),
        }
    }

    /// The next number of a xorshift generator (Marsaglia 2003).
    fn noise(&self) -> u64 {
        let mut x = self.seed.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed.set(x);
        x
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Counted {
    updates: u32,
    filler: Box<[u8]>,
}

impl Aggregate<Update> for Value {
    type Acc = (Counted, bool);
    type Out = bool;

    fn create(&self) -> Self::Acc {
        let words = (0..self.filler.div_ceil(8)).flat_map(|_| self.noise().to_le_bytes());
        (Counted { updates: 0, filler: words.take(self.filler).collect() }, false)
    }

    fn add(&self, (counted, churn): &mut Self::Acc, update: &Update) {
        counted.updates += 1;
        *churn = update.churn;
    }

    fn finish(&self, (_, churn): &Self::Acc) -> bool {
        *churn
    }
}
