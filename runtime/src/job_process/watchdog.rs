//! Notices steps that do not return.
//!
//! It looks at the activities of all operator chains about once a second. An activity that has not changed between two
//! looks while the code of a step runs is that of a worker that is stuck: a worker that has nothing to do is in no step,
//! and the activity of one that is slow changes with every record. The same goes for the threads that run the connectors'
//! code which stages or publishes output, and for a worker that waits for its state store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::activity::{Activity, Observation};
use crate::activity::{ActivityRegistry, StoreActivity, is_awaited};
use crate::metrics::Stuck;

/// How often to look.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// After this time a step that has not returned is named; then again whenever the time has doubled.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while the job is to stop.
const PATIENCE_AT_STOP: Duration = Duration::from_secs(2);

/// Remembers every activity and store as it was at the last look.
#[derive(Default)]
pub(crate) struct Watchdog {
    /// In the order of the activities.
    activities: Vec<Seen>,
    /// In the order of the stores.
    stores: Vec<Seen>,
    is_stopping: bool,
}

/// An activity or a store, as long as it does not change.
struct Seen {
    moves: u64,
    since: Instant,
    /// The time after which it is named.
    patience: Duration,
    /// The name under which it was logged.
    named: Option<String>,
}

/// A step whose code runs.
pub(crate) struct Standing {
    pub(crate) activity: Arc<Activity>,
    pub(crate) seen_at: Observation,
    /// For how long it has not come back, if the last look has seen it at the same place.
    pub(crate) time: Option<Duration>,
    pub(crate) waits_for_store: bool,
}

/// What a look has found.
#[derive(Default)]
pub(crate) struct Found {
    /// What a user should know.
    pub(crate) notes: Vec<String>,
    /// All steps that are stuck now.
    pub(crate) stuck: Vec<Stuck>,
}

impl Watchdog {
    /// The job is to stop: what holds it up is named again, and sooner.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        for seen in self.activities.iter_mut().chain(&mut self.stores) {
            seen.patience = if seen.named.is_some() { Duration::ZERO } else { PATIENCE_AT_STOP };
        }
    }

    /// All steps whose code runs now, as far as the last look knows for how long.
    pub(crate) fn standing(&self, watch: &ActivityRegistry, now: Instant) -> Vec<Standing> {
        let stores = watch.stores();
        let standing = |(i, activity): (usize, Arc<Activity>)| {
            let seen_at = activity.look();
            let same = self.activities.get(i).filter(|seen| seen.moves == seen_at.moves);
            let time = same.map(|seen| now - seen.since).filter(|time| *time >= EVERY);
            let is_awaited =
                |store: &Arc<StoreActivity>| store.slot == activity.slot && is_awaited(store.moves());
            let waits_for_store = !seen_at.is_beside_the_worker() && stores.iter().any(is_awaited);
            seen_at.is_in_step.then_some(Standing { activity, seen_at, time, waits_for_store })
        };
        watch.activities().into_iter().enumerate().filter_map(standing).collect()
    }

    /// Looks at all activities, and at all stores.
    pub(crate) fn look(&mut self, watch: &ActivityRegistry, now: Instant) -> Found {
        let mut look = Look { now, is_stopping: self.is_stopping, found: Found::default() };
        // The number of moves tells whether a worker waits, so it is read only once.
        let stores: Vec<_> = watch.stores().iter().map(|store| (store.slot, store.moves())).collect();
        let mut in_step = BTreeSet::new();
        for (i, activity) in watch.activities().iter().enumerate() {
            let seen_at = activity.look();
            let seen = look.seen(&mut self.activities, i, seen_at.moves);
            if seen_at.is_beside_the_worker() {
                look.stands_in_step(seen, activity, &seen_at, false);
            } else if seen_at.is_in_step {
                in_step.insert(activity.slot);
                let waits = stores.iter().any(|&(slot, moves)| slot == activity.slot && is_awaited(moves));
                look.stands_in_step(seen, activity, &seen_at, waits);
            }
        }
        for (i, &(slot, moves)) in stores.iter().enumerate() {
            let seen = look.seen(&mut self.stores, i, moves);
            // A step that waits is named above, with its record.
            if is_awaited(moves) && !in_step.contains(&slot) {
                look.stands(seen, || format!("worker {slot}"), WAITS);
            }
        }
        look.found
    }
}

const WAITS: &str = "has waited for the state store";

/// One look at all activities and stores.
struct Look {
    now: Instant,
    is_stopping: bool,
    found: Found,
}

impl Look {
    fn first_seen(&self, moves: u64) -> Seen {
        let patience = if self.is_stopping { PATIENCE_AT_STOP } else { PATIENCE };
        Seen { moves, since: self.now, patience, named: None }
    }

    /// The `i`-th of those that are looked at, which has made so many moves by now.
    fn seen<'a>(&mut self, all: &'a mut Vec<Seen>, i: usize, moves: u64) -> &'a mut Seen {
        if all.len() == i {
            all.push(self.first_seen(moves));
        }
        let seen = &mut all[i];
        if seen.moves != moves {
            let before = std::mem::replace(seen, self.first_seen(moves));
            let waited = (self.now - before.since).as_secs_f64();
            let back = before.named.map(|name| format!("{name} has come back after {waited:.0} s"));
            self.found.notes.extend(back);
        }
        seen
    }

    /// What was seen is at work and has not changed: it is named once that has lasted long enough.
    fn stands(&mut self, seen: &mut Seen, name: impl FnOnce() -> String, does: &str) {
        let waited = self.now - seen.since;
        if waited < seen.patience {
            return;
        }
        let name = seen.named.insert(name());
        let end = if self.is_stopping { AT_STOP } else { "" };
        self.found.notes.push(format!("{name} {does} for {:.0} s{end}", waited.as_secs_f64()));
        seen.patience = 2 * waited.max(PATIENCE_AT_STOP);
    }

    fn stands_in_step(
        &mut self,
        seen: &mut Seen,
        activity: &Activity,
        seen_at: &Observation,
        waits_for_store: bool,
    ) {
        let does = if waits_for_store { WAITS } else { "has not come back" };
        self.stands(seen, || name(activity, seen_at), does);
        if seen.named.is_some()
            && !waits_for_store
            && let Some(step) = activity.step(seen_at)
        {
            let record = activity.describe_record(seen_at, activity.key_hash(seen_at).as_deref());
            let seconds = (self.now - seen.since).as_secs_f64();
            self.found.stuck.push(Stuck { step, slot: activity.slot, record, seconds });
        }
    }
}

/// What a user can do about it.
const AT_STOP: &str = "; the stop waits for it, and a second Ctrl-C or SIGTERM ends the job without it";

/// An activity as the beginning of a sentence.
fn name(activity: &Activity, seen_at: &Observation) -> String {
    let step = format!("{} on worker {}", activity.describe_step(seen_at), activity.slot);
    match activity.describe_record(seen_at, activity.key_hash(seen_at).as_deref()) {
        record if record.is_empty() => step,
        record => format!("{step}, {record},"),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_connector_api::RecordId;

    use tidegate_protocol::Slot;

    use super::*;
    use crate::step::{Step, StepKind};

    /// A worker with one step, and who looks at it once a second.
    struct Bench {
        watch: ActivityRegistry,
        activity: Arc<Activity>,
        step: usize,
        watchdog: Watchdog,
        now: Instant,
    }

    impl Bench {
        fn new(is_keyed: bool) -> Self {
            let watch = ActivityRegistry::default();
            let activity = watch.activity(Slot(1));
            let step = activity.add_step(&Step::new(StepKind::Map, "slow"), is_keyed);
            Self { watch, activity, step, watchdog: Watchdog::default(), now: Instant::now() }
        }

        fn look(&mut self) -> Found {
            self.now += EVERY;
            self.watchdog.look(&self.watch, self.now)
        }

        /// The notes of so many seconds.
        fn notes(&mut self, seconds: u32) -> Vec<String> {
            (0..seconds).flat_map(|_| self.look().notes).collect()
        }
    }

    #[test]
    fn a_step_that_does_not_come_back_is_named_ever_more_rarely_and_once_it_is_back() {
        let mut bench = Bench::new(false);
        bench.activity.add_partition("part-0");
        bench.activity.enter(bench.step);
        bench.activity.partition(0);
        bench.activity.record(RecordId::offset(17), i64::MIN);
        let named = "step 'slow' on worker 1, partition 'part-0', offset 17, has";
        assert_eq!(bench.notes(5), Vec::<String>::new());
        let times = [5, 10, 20].map(|seconds| format!("{named} not come back for {seconds} s"));
        assert_eq!(bench.notes(21), times);
        let standing = bench.watchdog.standing(&bench.watch, bench.now + EVERY);
        assert_eq!(standing.iter().map(|s| s.time).collect::<Vec<_>>(), [Some(Duration::from_secs(26))]);
        let stuck = bench.look().stuck;
        let stuck: Vec<_> = stuck.iter().map(|s| (s.step.name(), s.slot, &*s.record, s.seconds)).collect();
        assert_eq!(stuck, [("slow".to_owned(), Slot(1), "partition 'part-0', offset 17", 26.0)]);
        bench.activity.record(RecordId::offset(18), i64::MIN);
        let found = bench.look();
        assert_eq!(found.notes, [format!("{named} come back after 27 s")]);
        assert!(found.stuck.is_empty());
    }

    #[test]
    fn a_worker_without_work_and_a_step_that_is_only_slow_are_not_named() {
        let mut bench = Bench::new(true);
        bench.activity.enter(bench.step);
        for _ in 0..100 {
            // The same key and time again and again.
            bench.activity.record(RecordId::offset(7), 7);
            assert!(bench.notes(3).is_empty());
        }
        bench.activity.leave();
        assert!(bench.notes(100).is_empty());
    }

    #[test]
    fn a_keyed_step_is_named_with_the_hash_and_the_time_and_one_apart_without_a_record() {
        let mut bench = Bench::new(true);
        bench.activity.enter(bench.step);
        bench.activity.record(RecordId::offset(0xabc), 1_000);
        let record = "key with hash 0000000000000abc, record with event time 1000";
        assert_eq!(bench.notes(6), [format!("step 'slow' on worker 1, {record}, has not come back for 5 s")]);
        bench.activity.enter_apart(bench.step);
        assert_eq!(bench.notes(7).last().unwrap(), "step 'slow' on worker 1 has not come back for 5 s");
    }

    #[test]
    fn a_step_that_waits_for_the_store_is_not_taken_for_one_that_is_stuck() {
        let mut bench = Bench::new(false);
        let store = bench.watch.store(Slot(1));
        bench.activity.enter(bench.step);
        let waiting = store.awaiting();
        assert_eq!(bench.notes(6), ["step 'slow' on worker 1 has waited for the state store for 5 s"]);
        assert!(bench.look().stuck.is_empty());
        drop(waiting);
        assert_eq!(bench.look().stuck.len(), 1);
    }

    #[test]
    fn a_worker_that_waits_for_its_store_in_no_step_is_named_and_one_that_is_served_is_not() {
        let mut bench = Bench::new(false);
        let store = bench.watch.store(Slot(1));
        for _ in 0..10 {
            let _waiting = store.awaiting();
            assert!(bench.notes(3).is_empty());
        }
        assert!(bench.notes(10).is_empty());
        let waiting = store.awaiting();
        let times = [5, 10].map(|seconds| format!("worker 1 has waited for the state store for {seconds} s"));
        assert_eq!(bench.notes(12), times);
        drop(waiting);
        assert_eq!(bench.notes(10), ["worker 1 has come back after 12 s"]);
    }

    #[test]
    fn output_that_is_not_staged_is_named_beside_what_waits_for_it() {
        let mut bench = Bench::new(false);
        let store = bench.watch.store(Slot(1));
        let staging = bench.watch.activity(Slot(1));
        staging.enter_staging(staging.add_step(&Step::new(StepKind::Sink, "out"), false));
        bench.activity.enter(bench.step);
        let _waiting = store.awaiting();
        let mut notes = bench.notes(6);
        notes.sort();
        let staged = "step 'out' on worker 1, staging its output, has not come back for 5 s";
        let waits = "step 'slow' on worker 1 has waited for the state store for 5 s";
        assert_eq!(notes, [staged, waits]);
    }

    #[test]
    fn output_that_is_not_published_is_named() {
        let mut bench = Bench::new(false);
        let publisher = bench.watch.activity(Slot(1));
        publisher.enter_publishing(publisher.add_step(&Step::new(StepKind::Sink, "out"), false));
        let named = "step 'out' on worker 1, publishing its output, has not come back for 5 s";
        assert_eq!(bench.notes(6), [named]);
    }

    #[test]
    fn what_holds_up_a_stop_is_named_at_once_or_after_two_seconds() {
        let mut bench = Bench::new(false);
        bench.activity.enter(bench.step);
        assert_eq!(bench.notes(6).len(), 1);
        bench.watchdog.stop();
        let notes = bench.notes(1);
        assert_eq!(notes, [format!("step 'slow' on worker 1 has not come back for 6 s{AT_STOP}")]);
        bench.activity.enter(bench.step);
        let notes = bench.notes(4);
        assert_eq!(
            notes.last().unwrap(),
            &format!("step 'slow' on worker 1 has not come back for 2 s{AT_STOP}")
        );
    }

    /// Looks repeatedly, as if five seconds apart, while another thread repeatedly does something that takes microseconds.
    /// No look may name anything, because nothing lasts from one look to the next.
    fn false_alarms(moment: impl Fn(&StoreActivity) + Send + 'static) -> usize {
        use std::sync::atomic::{AtomicBool, Ordering};
        let mut bench = Bench::new(false);
        let store = bench.watch.store(Slot(1));
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let worker = std::thread::spawn(move || {
            let mut spin = 1u32;
            while !ends.load(Ordering::Relaxed) {
                moment(&store);
                spin = spin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (0..spin >> 26).for_each(|_| std::hint::spin_loop());
            }
        });
        let mut alarms = 0;
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            bench.now += PATIENCE;
            let before = bench.watch.stores()[0].moves();
            let found = bench.watchdog.look(&bench.watch, bench.now);
            // It was at rest when the look began, so what is named has begun since then.
            let at_rest = before.is_multiple_of(2);
            alarms += found.notes.iter().filter(|note| at_rest && note.contains(" for ")).count();
        }
        over.store(true, Ordering::Relaxed);
        worker.join().unwrap();
        alarms
    }

    #[test]
    fn a_wait_that_begins_during_a_look_is_measured_from_that_look() {
        assert_eq!(false_alarms(|store| drop(store.awaiting())), 0);
    }
}
