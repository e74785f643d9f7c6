//! Times at the ends of what a number holds: those of timers are user data, and records come of them.

use std::time::Duration;

use tidegate::testing::{TestJob, VecSink, VecSource};
use tidegate::{
    Aggregate, Context, KeyedProcess, Result, Sliding, TimeDomain, Timer, Tumbling, Watermarks, Windows,
};

const TIMES: [i64; 12] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MIN + 7,
    i64::MIN / 2 - 1,
    -(1 << 60),
    -1,
    0,
    5,
    1 << 60,
    i64::MAX - 7,
    i64::MAX - 1,
    i64::MAX,
];

/// Sets a timer for the time that a record names, and puts out the time of the timer, and its event time.
struct Alarm(TimeDomain);

impl KeyedProcess for Alarm {
    type Key = u8;
    type In = i64;
    type State = ();
    type Out = i64;
    type Side = i64;

    fn on_record(&mut self, at: i64, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer { at, domain: self.0 });
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(timer.at);
        cx.side.emit(cx.time.event_time);
        Ok(())
    }
}

/// All records of a window.
struct All;

impl Aggregate<i64> for All {
    type Acc = Vec<i64>;
    type Out = Vec<i64>;

    fn create(&self) -> Vec<i64> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<i64>, record: &i64) {
        acc.push(*record);
    }

    fn finish(&self, acc: &Vec<i64>) -> Vec<i64> {
        acc.clone()
    }
}

/// The times of the timers that have fired, the event times that they gave, and the records that were in windows or late,
/// each once.
fn fired(time: TimeDomain, windows: Windows, workers: usize) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let (told, times, counted) = (VecSink::new(), VecSink::new(), VecSink::new());
    let late = VecSink::new();
    let sinks = (told.clone(), times.clone(), counted.clone(), late.clone());
    let job = TestJob::new(move |job| {
        // All have the same time, so that none is late for its own time.
        let records = job.source("records", VecSource::of(TIMES)).event_time(|_| 3, Watermarks::monotonous());
        let (fired, side) = records.key_by_value(|_| 0u8).process_with_side("alarm", Alarm(time));
        fired.clone().sink("told", sinks.0.clone());
        side.sink("times", sinks.1.clone());
        let windows = fired.key_by_value(|_| 0u8).window(windows);
        let (all, late) = windows.aggregate_with_late("windows", All);
        all.flat_map(|window| window.value).sink("counted", sinks.2.clone());
        late.sink("late", sinks.3.clone());
        Ok(())
    });
    job.parallelism(workers).run().unwrap();
    let mut all = [counted.records(), late.records()].concat();
    all.sort_unstable();
    all.dedup();
    (told.sorted(), times.sorted(), all)
}

#[test]
fn a_timer_may_be_set_for_any_time_and_what_it_puts_out_is_counted() {
    let ms = Duration::from_millis;
    let thousand_years = ms(1_000 * 365 * 24 * 3_600_000);
    for windows in
        [Tumbling::of(ms(1)), Tumbling::of(ms(10)), Sliding::of(ms(30), ms(10)), Tumbling::of(thousand_years)]
    {
        for (time, workers) in [(TimeDomain::Event, 1), (TimeDomain::Event, 2), (TimeDomain::Processing, 1)] {
            let (told, times, counted) = fired(time, windows, workers);
            assert_eq!(told, TIMES, "{windows}");
            // The least of all times stands for none, so the record has the one after it.
            assert_eq!(times, TIMES.map(|at| at.max(i64::MIN + 1)), "{windows}");
            assert_eq!(counted, TIMES, "{windows}");
        }
    }
}
