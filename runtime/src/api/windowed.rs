//! A keyed stream divided into windows.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::Error;

use crate::aggregates::{Aggregate, Fold, Mergeable};
use crate::api::keyed::KeyedStream;
use crate::api::plain::Stream;
use crate::data::Data;
use crate::dataflow::outlet::Outlet;
use crate::fingerprint::state_type_by_key;
use crate::key::Key;
use crate::operators::local_aggregate::MergePartials;
use crate::operators::window::{WindowDef, WindowStep};
use crate::step::{Step, StepKind};
use crate::window::{Windowed, Windows};

/// A keyed stream divided into windows.
#[must_use = "windows do nothing until they are aggregated"]
pub struct WindowedStream<K, T> {
    pub(super) stream: KeyedStream<K, T>,
    pub(super) windows: Windows,
    pub(super) lateness_ms: i64,
}

impl<K: Key, T: Data> WindowedStream<K, T> {
    /// Keeps a window this long after it has fired; its result is emitted again for a record that arrives for it in that
    /// time. It applies to windows of event time; with windows of processing time the job is refused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let (times, out) = (TestSource::new(1), VecSink::new());
    /// let (source, sink) = (times.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let times = job.source("times", source.clone()).event_time(|t| *t, Watermarks::monotonous());
    ///     times
    ///         .key_by_value(|_| 0u8)
    ///         .window(Tumbling::of(Duration::from_secs(1)))
    ///         .allowed_lateness(Duration::from_secs(60))
    ///         .aggregate("count", Count)
    ///         .map(|w| (w.window.start, w.value))
    ///         .sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// let running = job.start();
    /// times.extend(0, [100, 1_200]);
    /// running.checkpoint();
    /// times.push(0, 900);
    /// times.end();
    /// running.wait()?;
    /// assert_eq!(out.sorted(), [(0, 1), (0, 2), (1_000, 1)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness_ms = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// Computes a value for every key and window, emitted when the watermark passes the window's end. Records that come
    /// too late are counted and dropped.
    ///
    /// The event time of a result is the last millisecond of its window, `window.end - 1`. Whether a record is late is judged
    /// when it arrives, by the watermark that arrived with an earlier batch: one that comes in the same batch as the records
    /// that moved event time on still counts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let clicks = job.source("clicks", VecSource::of([("ann", 100), ("bob", 500), ("ann", 900)]));
    ///     let clicks = clicks.map(|(who, at)| (who.to_owned(), at)).event_time(|c| c.1, Watermarks::monotonous());
    ///     let windows = clicks.key_by(|click| &click.0).window(Tumbling::of(Duration::from_secs(1)));
    ///     Ok(windows.aggregate("count", Count).filter(|w| w.key == "ann").map(|w| (w.window.end, w.value)))
    /// })?;
    /// assert_eq!(out, [(1_000, 2)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn aggregate<A: Aggregate<T>>(self, name: &str, aggregate: A) -> Stream<Windowed<K, A::Out>> {
        let step = self.stream.step(StepKind::Window, name);
        self.build(step, aggregate, None, None)
    }

    /// Adds the records of every key and window to one value by `f`; emits it when the watermark passes the window's end.
    /// The value of a window begins as a copy of `initial`. It is the [`aggregate`](Self::aggregate) of a closure.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let clicks = job.source("clicks", VecSource::of([(7, 100, "help"), (7, 900, "home"), (7, 1_200, "help")]));
    ///     let clicks = clicks.map(|(user, at, page)| (user, at, page.to_owned()));
    ///     let clicks = clicks.event_time(|click| click.1, Watermarks::monotonous()).key_by(|click| &click.0);
    ///     let seconds = clicks.window(Tumbling::of(Duration::from_secs(1)));
    ///     let pages = seconds.fold("pages", Vec::new(), |pages, click| pages.push(click.2.clone()));
    ///     Ok(pages.map(|w| (w.window.start, w.value.join(", "))))
    /// })?;
    /// assert_eq!(out, [(0, "help, home".to_owned()), (1_000, "help".to_owned())]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn fold<A>(self, name: &str, initial: A, f: impl Fn(&mut A, &T) + 'static) -> Stream<Windowed<K, A>>
    where
        A: Clone + Serialize + DeserializeOwned + 'static,
    {
        self.aggregate(name, Fold { initial, f })
    }

    /// The same, with the records that come too late in a stream of their own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{Discard, TestJob, TestSource, VecSink};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let (times, out) = (TestSource::new(1), VecSink::new());
    /// let (source, sink) = (times.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let times = job.source("times", source.clone()).event_time(|t| *t, Watermarks::monotonous());
    ///     let windows = times.key_by_value(|_| 0u8).window(Tumbling::of(Duration::from_secs(1)));
    ///     let (counts, late) = windows.aggregate_with_late("count", Count);
    ///     counts.sink("counts", Discard::named("counts"));
    ///     late.sink("late", sink.clone());
    ///     Ok(())
    /// });
    /// let running = job.start();
    /// times.extend(0, [100, 1_200]);
    /// running.checkpoint();
    /// times.push(0, 900);
    /// times.end();
    /// assert_eq!(running.wait()?.late, 1);
    /// assert_eq!(out.records(), [900]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn aggregate_with_late<A: Aggregate<T>>(
        self,
        name: &str,
        aggregate: A,
    ) -> (Stream<Windowed<K, A::Out>>, Stream<T>) {
        let (late, step) = (Outlet::new(), self.stream.step(StepKind::Window, name));
        let main = self.build(step, aggregate, Some(late.clone()), None);
        let late = main.beside(late);
        (main, late)
    }

    /// [`aggregate`](Self::aggregate) in two steps, for streams in which a few keys have most of the records: every worker
    /// first aggregates the records that it reads by key and window, and sends the partial results, not the records, to
    /// the worker of the key, which merges them. So a hot key costs its worker a partial result now and then, and what it
    /// costs otherwise is shared by all workers that read its records.
    ///
    /// The results, their event time, `late` and allowed lateness are those of `aggregate`; with allowed lateness a result is
    /// emitted again for a partial result, and not for every late record in it. There is no stream of late records, because
    /// they are not kept: for that take [`aggregate_with_late`](Self::aggregate_with_late). Sums of floating-point numbers
    /// may differ in their last digits, as they do with another parallelism. The aggregate must not depend on the order of
    /// records.
    ///
    /// Partial results are sent before every barrier, and before the watermark reaches the end of a window; they are no part of
    /// snapshots. What the step keeps is the same as with `aggregate`: a job can change from one to the other and go on from
    /// its snapshots. A worker holds up to 4,096 partial results.
    ///
    /// It costs more than `aggregate` where keys seldom come twice between two checkpoints. docs/performance.md has figures.
    /// With windows of processing time records count when their partial result arrives, within milliseconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::{Count, Max};
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let clicks = (0..1_000).map(|n| (if n % 10 == 0 { "ann" } else { "crawler" }.to_owned(), n));
    ///     let clicks = job.source("clicks", VecSource::of(clicks)).event_time(|c| c.1, Watermarks::monotonous());
    ///     let windows = clicks.key_by(|click| &click.0).window(Tumbling::of(Duration::from_secs(1)));
    ///     let counts = windows.aggregate_hot("counts", (Count, Max::of(|click: &(String, i64)| click.1)));
    ///     Ok(counts.map(|w| (w.key, w.value)))
    /// })?;
    /// assert_eq!(out, [("ann".to_owned(), (100, 990)), ("crawler".to_owned(), (900, 999))]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn aggregate_hot<A>(self, name: &str, aggregate: A) -> Stream<Windowed<K, A::Out>>
    where
        A: Mergeable<T>,
        A::Acc: Data + Clone,
    {
        let Self { stream, windows, lateness_ms } = self;
        let (step, aggregate) = (stream.step(StepKind::Window, name), Rc::new(aggregate));
        let stream = stream.partials(&step, windows, &aggregate);
        let merge = MergePartials::<T, A>::new(aggregate);
        let windowed = WindowedStream { stream, windows, lateness_ms };
        windowed.build(step, merge, None, Some(|partial| partial.records))
    }

    fn build<A: Aggregate<T>>(
        self,
        step: Arc<Step>,
        aggregate: A,
        late_to: Option<Outlet<T>>,
        records_of: Option<fn(&T) -> u64>,
    ) -> Stream<Windowed<K, A::Out>> {
        if self.windows.processing_time && self.lateness_ms > 0 {
            self.stream.inputs[0].job.refuse(Error::job(format!(
                "'{}' has windows of processing time with .allowed_lateness(..): no record is late for such windows; \
                 leave it out",
                step.name()
            )));
        }
        let outlet = Outlet::new();
        let (windows, lateness_ms, next) = (self.windows, self.lateness_ms, outlet.clone());
        let state = state_type_by_key::<K, _>(&aggregate.create());
        let built = self.stream.operator(step, |chain, step, key| {
            let def = WindowDef { key, windows, lateness_ms, aggregate, next, late_to, records_of };
            WindowStep::new(chain, step, def)
        });
        if let Some(problem) = windows.problem() {
            built.job.refuse_step(&built.step, Error::job(problem));
        }
        built.declare_by_window(state, windows, lateness_ms);
        if !windows.processing_time {
            built.check_is_timed();
        }
        built.timed_stream(outlet)
    }
}
