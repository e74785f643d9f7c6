//! The laws of the algebra, and that receivers agree whatever the order of arrival.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[test]
fn the_slowest_active_partition_decides() {
    let sets = [
        (vec![Watermark::active(10), Watermark::active(5)], 5),
        (vec![Watermark::active(10), Watermark::idle(5)], 10),
        (vec![Watermark::active(10), Watermark::idle(50)], 10),
        (vec![Watermark::active(10), Watermark::ended(5)], 10),
        (vec![Watermark::idle(10), Watermark::idle(5)], 10),
        (vec![Watermark::idle(5), Watermark::ended(10)], 10),
        (vec![Watermark::ended(5), Watermark::ended(10)], i64::MAX),
        (vec![Watermark::UNKNOWN, Watermark::active(5)], i64::MIN),
        (vec![Watermark::EMPTY, Watermark::active(5)], 5),
        (vec![Watermark::EMPTY], i64::MAX),
    ];
    for (set, time) in sets {
        assert_eq!(set.iter().copied().fold(Watermark::EMPTY, Watermark::join).time(), time, "{set:?}");
    }
}

#[test]
fn an_announcement_counts_from_the_next_epoch_on() {
    let mut senders = Senders::new(2);
    assert_eq!(senders.update(0, Watermark::active(10)).map(Watermark::time), Some(i64::MIN));
    assert_eq!(senders.update(1, Watermark::active(5)).map(Watermark::time), Some(5));
    senders.announce(1, Watermark::idle(5));
    assert_eq!(senders.next_epoch().map(Watermark::time), Some(10));
    assert_eq!(senders.update(0, Watermark::active(12)).map(Watermark::time), Some(5));
    assert_eq!(senders.begin_epoch().map(Watermark::time), Some(12));
    assert_eq!((senders.next_epoch(), senders.begin_epoch()), (None, None));
}

#[test]
fn a_worker_that_still_fires_is_waited_for_also_when_its_input_is_idle() {
    let idle = Watermark::idle(0);
    let (mut senders, step) = (Senders::new(2), |time| idle.of_output(time));
    senders.update(0, step(10));
    assert_eq!(senders.update(1, step(10)).map(Watermark::time), Some(10));
    // The idle partitions have come further. One worker is done at once, the other fires.
    assert_eq!(senders.update(0, step(20)), None);
    assert_eq!(senders.update(1, Watermark::firing(12)).map(Watermark::time), Some(12));
    // At the end of the input, too.
    assert_eq!(senders.update(0, Watermark::ended(0).of_output(20)), None);
    assert_eq!(senders.update(1, Watermark::firing(15)).map(Watermark::time), Some(15));
    let ended = senders.update(1, Watermark::ended(0).of_output(20)).unwrap();
    assert_eq!((ended.time(), ended.furthest()), (i64::MAX, 20));
}

#[test]
fn an_idle_step_holds_nobody_back() {
    let step = Watermark::idle(0).of_output(10);
    for (other, time) in [(Watermark::active(50), 50), (Watermark::idle(50), 50), (Watermark::idle(5), 10)] {
        assert_eq!(step.join(other).time(), time, "{other:?}");
    }
    assert_eq!(Watermark::active(0).of_output(10).join(Watermark::active(50)).time(), 10);
}

fn watermark() -> impl Strategy<Value = Watermark> {
    let time = prop_oneof![Just(i64::MIN), -50i64..50, Just(i64::MAX)];
    (time.clone(), time.clone(), time, any::<bool>())
        .prop_map(|(active, furthest, reached, open)| Watermark { active, furthest, reached, open })
}

/// What partitions do, one entry a step of one partition.
#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(usize, i64),
    End(usize),
    /// Becomes idle at once, and active again at the next barrier.
    Idle(usize, bool),
    Barrier,
}

const PARTITIONS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..PARTITIONS, -50i64..50).prop_map(|(p, time)| Step::Advance(p, time)),
        1 => (0..PARTITIONS).prop_map(Step::End),
        3 => (0..PARTITIONS, any::<bool>()).prop_map(|(p, idle)| Step::Idle(p, idle)),
        3 => Just(Step::Barrier),
    ]
}

#[derive(Clone, Copy)]
struct Partition {
    time: i64,
    quiet: bool,
    counted_idle: bool,
    ended: bool,
}

impl Partition {
    fn said(&self) -> Watermark {
        match self {
            Self { ended: true, time, .. } => Watermark::ended(*time),
            Self { counted_idle: true, time, .. } => Watermark::idle(*time),
            Self { time, .. } => Watermark::active(*time),
        }
    }
}

/// What every worker sends, epoch by epoch, if partition `p` belongs to worker `p % workers`.
fn sent(steps: &[Step], workers: usize) -> Vec<Vec<Vec<WatermarkUpdate>>> {
    let new = Partition { time: i64::MIN, quiet: false, counted_idle: false, ended: false };
    let mut partitions = [new; PARTITIONS];
    let mut epochs = vec![vec![Vec::new(); workers]];
    let of = |partitions: &[Partition; PARTITIONS], worker: usize| {
        let own = partitions.iter().skip(worker).step_by(workers);
        own.map(Partition::said).fold(Watermark::EMPTY, Watermark::join)
    };
    for step in steps.iter().chain([&Step::Barrier]) {
        let running = epochs.last_mut().unwrap();
        match *step {
            Step::Advance(p, time) if !partitions[p].ended => {
                partitions[p].time = partitions[p].time.max(time);
                running[p % workers].push(WatermarkUpdate::Now(of(&partitions, p % workers)));
            }
            Step::End(p) => {
                partitions[p].ended = true;
                running[p % workers].push(WatermarkUpdate::Now(of(&partitions, p % workers)));
            }
            Step::Idle(p, idle) => {
                partitions[p].quiet = idle;
                partitions[p].counted_idle |= idle;
                running[p % workers].push(WatermarkUpdate::Now(of(&partitions, p % workers)));
            }
            Step::Advance(..) => {}
            Step::Barrier => {
                for (worker, sent) in running.iter_mut().enumerate() {
                    sent.push(WatermarkUpdate::Now(of(&partitions, worker)));
                }
                partitions.iter_mut().for_each(|p| p.counted_idle = p.quiet);
                for (worker, sent) in running.iter_mut().enumerate() {
                    sent.push(WatermarkUpdate::NextEpoch(of(&partitions, worker)));
                }
                epochs.push(vec![Vec::new(); workers]);
            }
        }
    }
    epochs
}

/// The event time of a receiver at every barrier; `order` decides which sender's next message arrives.
fn received(epochs: &[Vec<Vec<WatermarkUpdate>>], order: &[Index]) -> Vec<i64> {
    let mut senders = Senders::new(epochs[0].len());
    let (mut time, mut at_barriers, mut order) = (i64::MIN, Vec::new(), order.iter().cycle());
    for epoch in epochs {
        time = senders.begin_epoch().map_or(time, |w| time.max(w.time()));
        let mut unheard: Vec<_> = epoch.iter().map(|marks| marks.iter()).enumerate().collect();
        while !unheard.is_empty() {
            let turn = order.next().unwrap().index(unheard.len());
            let (sender, marks) = &mut unheard[turn];
            match marks.next() {
                Some(WatermarkUpdate::Now(said)) => {
                    time = senders.update(*sender, *said).map_or(time, |w| time.max(w.time()));
                }
                Some(WatermarkUpdate::NextEpoch(said)) => senders.announce(*sender, *said),
                None => drop(unheard.remove(turn)),
            }
        }
        at_barriers.push(time);
    }
    at_barriers
}

proptest! {
    #[test]
    fn joining_has_no_order_no_grouping_and_no_count(a in watermark(), b in watermark(), c in watermark()) {
        prop_assert_eq!(a.join(b), b.join(a));
        prop_assert_eq!(a.join(b).join(c), a.join(b.join(c)));
        prop_assert_eq!(a.join(a), a);
        prop_assert_eq!(a.join(Watermark::EMPTY), a);
    }

    /// The invariant: at a barrier all receivers have come to the same event time, whatever the order of arrival and
    /// however partitions are divided among workers.
    #[test]
    fn same_watermark(
        steps in prop::collection::vec(step(), 1..80),
        orders in prop::collection::vec(prop::collection::vec(any::<Index>(), 40), 3),
    ) {
        let alone = received(&sent(&steps, 1), &orders[0]);
        prop_assert!(alone.is_sorted(), "event time went back: {alone:?}");
        for workers in [1, 2, 3, 5] {
            let sent = sent(&steps, workers);
            for order in &orders {
                prop_assert_eq!(&received(&sent, order), &alone, "with {} workers", workers);
            }
        }
    }
}
