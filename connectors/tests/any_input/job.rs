//! The job that the lines go through: every kind of step that a line can make stumble.
//!
//! ```text
//! rows ── checked ── event_time ─┬─ by key ── windows ──> windows, late
//!  │         │                   └─ by key ── told ─────> told, side
//!  └> dead   └> refused                        └─ by key ── told_windows ──> told_windows, told_late
//! ```
//!
//! Every accepted row comes out of `windows` or `late`, and of `told` or `side`. Every row of `told`, be it a row or a
//! timer that has fired, comes out of `told_windows` or `told_late`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::{
    Aggregate, Context, Job, KeyedProcess, Sliding, Stream, TimeDomain, Timer, Watermarks, Windowed,
};
use tidegate_connectors::FileLog;

/// The most bytes of a line.
pub(crate) const MAX_LINE_BYTES: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) key: String,
    pub(crate) at: i64,
    pub(crate) value: f64,
    /// A timer to be set, and whether it is one of processing time.
    pub(crate) timer: Option<(i64, bool)>,
    /// Whether `checked` refuses it.
    pub(crate) refuse: bool,
}

impl Row {
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap()
    }

    /// With another text as the value of a field.
    pub(crate) fn json_with(&self, field: &str, to: &str) -> String {
        let mut value = json!(self);
        value[field] = json!("here");
        value.to_string().replacen("\"here\"", to, 1)
    }
}

/// What `told` puts out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Told {
    Row(Row),
    Fired { key: String, at: i64, processing: bool },
}

impl Told {
    pub(crate) fn key(&self) -> &String {
        match self {
            Self::Row(row) => &row.key,
            Self::Fired { key, .. } => key,
        }
    }
}

/// The numbers of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: u64,
    pub(crate) slide: u64,
    lateness: Duration,
    bound: Duration,
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let slide = prop_oneof![Just(1u64), 2u64..2_000, Just(1 << 40)];
    let times =
        prop_oneof![Just(Duration::ZERO), (0u64..5_000).prop_map(Duration::from_millis), Just(Duration::MAX)];
    let bound = prop_oneof![(0u64..1_000).prop_map(Duration::from_millis), Just(Duration::MAX)];
    (slide, 1u64..6, 0u64..2, times, bound).prop_map(|(slide, times, more, lateness, bound)| Shape {
        size: slide * times + more * (slide / 2),
        slide,
        lateness,
        bound,
    })
}

/// Whether a job is to take its time, so that it can be ended in the middle.
#[derive(Clone)]
pub(crate) struct Slowness(Arc<AtomicBool>);

pub(crate) fn slowness() -> Slowness {
    Slowness(Arc::default())
}

impl Slowness {
    pub(crate) fn set(&self, slow: bool) {
        self.0.store(slow, Ordering::Relaxed);
    }

    fn wait(&self) {
        if self.0.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

pub(crate) fn build(job: &mut Job, root: &Path, shape: Shape, slow: Slowness) {
    let sink = |name: &str| FileLog::sink(root.join(name));
    let rows = job
        .source("rows", FileLog::partitions(root.join("in")).max_line_bytes(MAX_LINE_BYTES).json::<Row>())
        .dead_letters(sink("dead"))
        .try_map("checked", move |row: &Row| {
            slow.wait();
            if row.refuse { Err("it asks for it") } else { Ok(row.clone()) }
        })
        .dead_letters(sink("refused"))
        .event_time(|row| row.at, Watermarks::bounded(shape.bound));
    windowed(rows.clone(), |row| &row.key, shape, "windows", "late", root);
    let (told, side) = rows.key_by(|row| &row.key).process_with_side("told", Teller);
    told.clone().sink("told_out", sink("told").json());
    side.sink("side", sink("side").json());
    windowed(told, Told::key, shape, "told_windows", "told_late", root);
}

fn windowed<T>(
    records: Stream<T>,
    key: fn(&T) -> &String,
    shape: Shape,
    name: &str,
    late_name: &str,
    root: &Path,
) where
    T: Clone + Send + Serialize + for<'de> Deserialize<'de> + 'static,
{
    let ms = Duration::from_millis;
    let windows = records.key_by(key).window(Sliding::of(ms(shape.size), ms(shape.slide)));
    let (all, late) = windows.allowed_lateness(shape.lateness).aggregate_with_late(name, All);
    all.sink(&format!("{name}_out"), FileLog::sink(root.join(name)).json());
    late.sink(late_name, FileLog::sink(root.join(late_name)).json());
}

/// All records of a window.
struct All;

impl<T> Aggregate<T> for All
where
    T: Clone + Serialize + for<'de> Deserialize<'de> + 'static,
{
    type Acc = Vec<T>;
    type Out = Vec<T>;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<T>, record: &T) {
        acc.push(record.clone());
    }

    fn finish(&self, acc: &Vec<T>) -> Vec<T> {
        acc.clone()
    }
}

/// What comes out of `windows` and `told_windows`.
pub(crate) type Window<T> = Windowed<String, Vec<T>>;

/// Puts out rows and the timers that they set. A row whose number its key has had before goes to the side.
struct Teller;

impl KeyedProcess for Teller {
    type Key = String;
    type In = Row;
    type State = Vec<u64>;
    type Out = Told;
    type Side = Row;

    fn on_record(&mut self, row: Row, cx: &mut Context<'_, Self>) -> tidegate::Result<()> {
        if let Some((at, processing)) = row.timer {
            let time = if processing { TimeDomain::Processing } else { TimeDomain::Event };
            cx.timers.set(Timer { at, domain: time });
        }
        if cx.state.get().is_some_and(|ids| ids.contains(&row.id)) {
            cx.side.emit(row);
        } else {
            cx.state.get_mut().push(row.id);
            cx.out.emit(Told::Row(row));
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> tidegate::Result<()> {
        let (key, at, processing) = (cx.key.clone(), timer.at, timer.domain == TimeDomain::Processing);
        cx.out.emit(Told::Fired { key, at, processing });
        Ok(())
    }
}
