//! The timely timestamp: `epoch << 32 | tick`.
//!
//! The epoch is counted from the start of the attempt, so that 32 bits last for 13 years of ten checkpoints a second; the
//! tick starts again in every epoch. See docs/decisions/0001-epoch-and-tick.md.

/// The timestamp type of timely.
pub(crate) type Timestamp = u64;

const TICK_BITS: u32 = 32;

/// The first moment of an epoch, counted from the start of the attempt.
pub(crate) fn start_of(epoch: u64) -> Timestamp {
    epoch << TICK_BITS
}

/// The epoch of a moment, counted from the start of the attempt.
pub(crate) fn epoch_of(time: Timestamp) -> u64 {
    time >> TICK_BITS
}

/// The next tick of the same epoch; the last tick of an epoch is its own successor.
pub(crate) fn next_tick(time: Timestamp) -> Timestamp {
    if epoch_of(time + 1) == epoch_of(time) { time + 1 } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_never_leaves_its_epoch() {
        assert_eq!(next_tick(start_of(7)), start_of(7) + 1);
        let last = start_of(8) - 1;
        assert_eq!(next_tick(last), last);
        assert_eq!(epoch_of(last), 7);
    }
}
