//! What takes long does not keep the rest from being seen.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tidegate::aggregates::Count;
use tidegate::clock::ManualClock;
use tidegate::testing::{Discard, TestJob, TestSource, VecSource};
use tidegate::{Context, KeyedProcess, Result, Timer, Tumbling, Watermarks};

/// Sets a timer of the clock for now, always again.
struct AtOnce;

impl AtOnce {
    fn set(cx: &mut Context<'_, Self>) {
        let at = cx.time.processing_time;
        cx.timers.set(Timer::processing(at));
    }
}

impl KeyedProcess for AtOnce {
    type Key = u32;
    type In = u32;
    type State = ();
    type Out = ();
    type Side = ();

    fn on_record(&mut self, _: u32, cx: &mut Context<'_, Self>) -> Result<()> {
        Self::set(cx);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        Self::set(cx);
        Ok(())
    }
}

#[test]
fn timers_of_the_clock_that_are_always_due_take_turns_with_records() {
    let job = TestJob::new(|job| {
        let numbers = job.source("numbers", VecSource::of(0..20_000u32)).key_by_value(|n| n % 7);
        numbers.process("at_once", AtOnce).sink("out", Discard::named("out"));
        Ok(())
    });
    let (done, is_done) = channel();
    std::thread::spawn(move || done.send(job.no_interval().run().map(|summary| summary.rows_in)));
    let rows = is_done.recv_timeout(Duration::from_secs(60)).expect("records wait for ever");
    assert_eq!(rows.unwrap(), 20_000);
}

#[test]
fn a_partition_that_nobody_looked_at_is_not_idle() {
    const HOUR: i64 = 3_600_000;
    let (source, clock) = (TestSource::<i64>::followed(2), Arc::new(ManualClock::at(0)));
    let (from, to, slow_clock) = (source.clone(), source.clone(), clock.clone());
    let job = TestJob::new(move |job| {
        let marks = Watermarks::monotonous().idle_after(Duration::from_secs(1));
        let (to, clock) = (to.clone(), slow_clock.clone());
        let slow = job.source("events", from.clone()).event_time(|at| *at, marks).map(move |at| {
            if at == HOUR {
                // Meanwhile the other partition gets a record, and a barrier is asked for.
                to.push(1, 20);
                clock.advance_ms(10_000);
                std::thread::sleep(Duration::from_millis(100));
            }
            at
        });
        let windows = slow.key_by_value(|_| 0u8).window(Tumbling::of(Duration::from_millis(10)));
        windows.aggregate("count", Count).sink("out", Discard::named("out"));
        Ok(())
    });
    let running = job.clock(clock).interval(Duration::from_millis(5)).start();
    source.push(1, 10);
    running.checkpoint();
    source.push(0, HOUR);
    running.checkpoint();
    source.push(1, 30);
    assert_eq!(running.stop().unwrap().late, 0);
}
