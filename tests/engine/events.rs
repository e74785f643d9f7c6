//! What the tests send through the engine, and what they expect, computed as simply as it can be.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::{Aggregate, Windowed};

/// Beyond the time of any machine that runs this.
pub(crate) const FAR: i64 = 9_000_000_000_000;

/// A key, an event time, a number.
pub(crate) type Event = (u32, i64, i64);
/// What came out of a window: start, key, count, sum.
pub(crate) type Fired = (i64, u32, u64, i64);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Count and sum of the numbers.
#[derive(Clone, Copy)]
pub(crate) struct Sums;

impl Aggregate<Event> for Sums {
    type Acc = (u64, i64);
    type Out = (u64, i64);

    fn create(&self) -> (u64, i64) {
        (0, 0)
    }

    fn add(&self, (count, sum): &mut (u64, i64), record: &Event) {
        *count += 1;
        *sum += record.2;
    }

    fn finish(&self, acc: &(u64, i64)) -> (u64, i64) {
        *acc
    }
}

pub(crate) fn fired(out: Windowed<u32, (u64, i64)>) -> Fired {
    (out.window.start, out.key, out.value.0, out.value.1)
}

/// Every window of every key, by definition.
pub(crate) fn windows(events: &[Event], size: i64, slide: i64) -> Vec<Fired> {
    let mut all: BTreeMap<(i64, u32), (u64, i64)> = BTreeMap::new();
    for (key, at, number) in events {
        let first = (at - size).div_euclid(slide) + 1;
        let last = at.div_euclid(slide);
        for start in (first..=last).map(|n| n * slide) {
            let window = all.entry((start, *key)).or_default();
            *window = (window.0 + 1, window.1 + number);
        }
    }
    all.into_iter().map(|((start, key), (count, sum))| (start, key, count, sum)).collect()
}

/// Partitions of events that are at most 20 ms out of order.
pub(crate) fn partitions(count: usize, most: usize) -> impl Strategy<Value = Vec<Vec<Event>>> {
    let event = (0u32..40, 0i64..20, -100i64..100, 0i64..12);
    let partition = prop::collection::vec(event, 0..most).prop_map(|steps| {
        let mut now = 0;
        let event = |(key, back, number, step)| {
            now += step;
            (key, now - back, number)
        };
        steps.into_iter().map(event).collect()
    });
    prop::collection::vec(partition, count)
}
