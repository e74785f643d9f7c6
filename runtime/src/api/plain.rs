//! Streams of records, and the steps that need no key.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::api::event_time::{EventTime, Watermarks};
use crate::api::job::{End, JobInner, Sink};
use crate::api::keyed::KeyedStream;
use crate::data::Data;
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::partitioner::Route;
use crate::key::{Key, KeyFn};
use crate::operators::error_route::{ErrorRoute, OnError};
use crate::operators::merge::Merge;
use crate::operators::stateless::{FlatMap, Inspect, Map, Retain, Split, TryMap};
use crate::step::{Step, StepKind};
use tidegate_connector_api::Record;
use tidegate_connector_api::{DeadLetter, TransactionalSink};
use tidegate_protocol::{Error, Result};

/// A stream of records of one type.
///
/// Every step takes the stream and returns the next one; [`Clone`] splits it where two steps are to see the same records.
/// Steps between two exchanges run in one go over batches of up to 256 records.
#[must_use = "a stream without a sink does nothing"]
pub struct Stream<T> {
    pub(crate) job: Rc<JobInner>,
    pub(crate) chain: Rc<OperatorChain>,
    pub(crate) outlet: Outlet<T>,
    last: Last,
}

/// The step that a stream comes out of, for what modifies it.
#[derive(Clone)]
pub(crate) struct Last {
    pub(crate) step: Arc<Step>,
    pub(crate) route: Option<Rc<ErrorRoute>>,
    /// The source whose records have come here without an event time, if there is one.
    pub(crate) untimed: Option<Arc<Step>>,
}

impl<T: Clone + 'static> Clone for Stream<T> {
    /// Splits the stream: both see every record.
    fn clone(&self) -> Self {
        self.outlet.share();
        let Self { job, chain, outlet, last } = self;
        Self { job: job.clone(), chain: chain.clone(), outlet: outlet.clone(), last: last.clone() }
    }
}

impl<T: 'static> Stream<T> {
    pub(crate) fn new(job: Rc<JobInner>, chain: Rc<OperatorChain>, outlet: Outlet<T>, last: Last) -> Self {
        job.stream(&last.step, &outlet);
        Self { job, chain, outlet, last }
    }

    /// The source whose records have come here without an event time, if there is one.
    pub(crate) fn untimed(&self) -> Option<&Arc<Step>> {
        self.last.untimed.as_ref()
    }

    /// The step that the stream comes out of.
    pub(crate) fn step(&self) -> &Arc<Step> {
        &self.last.step
    }

    /// Another stream out of the same step.
    pub(crate) fn beside<U: 'static>(&self, outlet: Outlet<U>) -> Stream<U> {
        Stream::new(self.job.clone(), self.chain.clone(), outlet, self.last.clone())
    }

    /// Puts a step of this operator chain behind the stream.
    fn then<U: 'static, R: Receiver<T> + 'static>(
        self,
        kind: StepKind,
        receiver: impl FnOnce(&Rc<OperatorChain>, &Arc<Step>, Outlet<U>) -> R,
    ) -> Stream<U> {
        let step = self.job.numbered_step(kind);
        let outlet = Outlet::new();
        self.job.attach(&self.outlet, receiver(&self.chain, &step, outlet.clone()));
        let last = Last { step, route: None, untimed: self.last.untimed };
        Stream::new(self.job, self.chain, outlet, last)
    }

    /// Names the step that this stream comes out of, for metrics, the summary and messages; a step with state or
    /// counters is found in a snapshot by its name.
    ///
    /// ```
    /// use tidegate::testing::{Discard, TestJob, VecSource};
    ///
    /// let job = TestJob::new(|job| {
    ///     let numbers = job.source("numbers", VecSource::of([1, 2, 3]));
    ///     numbers.filter(|n| n % 2 == 1).named("even").sink("odd", Discard::named("odd"));
    ///     Ok(())
    /// });
    /// assert_eq!(job.run()?.dropped["even"], 1);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn named(self, name: &str) -> Self {
        self.last.step.rename(name);
        self
    }

    /// Fixes what the step that this stream comes out of is called in snapshots, so that its name can change.
    ///
    /// ```
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// // Called "per_word" in metrics from now on; snapshots know it as "count", as it was called before.
    /// let out = collect(|job| {
    ///     let words = job.source("words", VecSource::of(["a".to_owned(), "a".to_owned()]));
    ///     Ok(words.key_by(|word| word).aggregate("per_word", Count).uid("count"))
    /// })?;
    /// assert_eq!(out, [("a".to_owned(), 1), ("a".to_owned(), 2)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn uid(self, uid: &str) -> Self {
        self.last.step.set_uid(uid);
        self
    }

    /// Sets what happens to records that the parsing step before cannot read; without it such a record ends the job.
    ///
    /// [`Stream::dead_letters`] implies [`OnError::DeadLetter`]; without a sink for dead letters the job is refused. It is
    /// also refused if [`OnError::Skip`] or [`OnError::Fail`] is combined with such a sink.
    ///
    /// ```
    /// use tidegate::OnError;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let words = job.source("words", VecSource::of(["1", "two", "3"]));
    ///     Ok(words.try_map("parse", |word| word.parse::<u32>()).on_error(OnError::Skip))
    /// })?;
    /// assert_eq!(out, [1, 3]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn on_error(self, policy: OnError) -> Self {
        match &self.last.route {
            Some(route) => route.asked.set(Some(policy)),
            None => self.job.refuse(Error::job(format!(
                "'{}' is followed by .on_error(..), but it is not a parsing step: only a source, try_map or event_time has records \
                 that it cannot read",
                self.last.step.name()
            ))),
        }
        self
    }

    /// Sends records that the parsing step before cannot read to a sink, which is called after that step in snapshots, too.
    ///
    /// ```
    /// use tidegate::testing::{Discard, TestJob, VecSink, VecSource};
    ///
    /// let letters = VecSink::new();
    /// let sink = letters.clone();
    /// let job = TestJob::new(move |job| {
    ///     job.source("words", VecSource::of(["1", "two", "3"]))
    ///         .try_map("parse", |word| word.parse::<u32>())
    ///         .dead_letters(sink.clone())
    ///         .sink("numbers", Discard::named("numbers"));
    ///     Ok(())
    /// });
    /// assert_eq!(job.run()?.dead_letters, 1);
    /// assert_eq!((letters.records()[0].offset, letters.records()[0].raw.as_deref()), (Some(1), Some("\"two\"")));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn dead_letters(self, sink: impl TransactionalSink<DeadLetter>) -> Self {
        match &self.last.route {
            Some(route) if !route.has_letters.replace(true) => {
                let step = self.job.step_after(StepKind::DeadLetters, &self.last.step);
                self.job.sink(&step, (&self.chain, &route.letters), sink);
            }
            Some(_) => self.job.refuse(Error::job(format!(
                "'{}' has two sinks for its dead letters",
                self.last.step.name()
            ))),
            None => self.job.refuse(Error::job(format!(
                "'{}' is followed by .dead_letters(..), but it is not a parsing step: only a source, try_map or event_time has \
                 records that it cannot read",
                self.last.step.name()
            ))),
        }
        self
    }

    /// Replaces every record by what `f` makes of it.
    ///
    /// As in every step, `f` lives longer than the function that describes the job, so it cannot borrow from that function's
    /// arguments; [`Job`](crate::Job#what-a-closure-may-hold) says what to do. What `f` keeps in itself from one record to the
    /// next is not part of snapshots.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| Ok(job.source("numbers", VecSource::of([1, 2])).map(|n| n * 10)))?;
    /// assert_eq!(out, [10, 20]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn map<U: 'static>(self, f: impl FnMut(T) -> U + 'static) -> Stream<U> {
        self.then(StepKind::Map, |chain, step, next| Map::new(chain, step, f, next))
    }

    /// Replaces every record by what `f` makes of it; an error of `f` ends the job, unless [`Stream::on_error`] or
    /// [`Stream::dead_letters`] follows.
    ///
    /// `f` gets the record by reference, unlike that of [`Stream::map`]: a record that it refuses is written to the dead
    /// letter as JSON. What the result keeps of the record is cloned:
    ///
    /// ```
    /// use tidegate::OnError;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let users = job.source("users", VecSource::of([("ann".to_owned(), 31), ("bob".to_owned(), -1)]));
    ///     let checked = users.try_map("check", |user: &(String, i32)| {
    ///         if user.1 < 0 { Err(format!("{} has a negative age", user.0)) } else { Ok(user.clone()) }
    ///     });
    ///     Ok(checked.on_error(OnError::Skip))
    /// })?;
    /// assert_eq!(out, [("ann".to_owned(), 31)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// An error ends the job if nothing else is asked for:
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let good = collect(|job| {
    ///     Ok(job.source("words", VecSource::of(["1", "2"])).try_map("parse", |word| word.parse::<u32>()))
    /// })?;
    /// assert_eq!(good, [1, 2]);
    /// let bad = collect(|job| {
    ///     Ok(job.source("words", VecSource::of(["1", "two"])).try_map("parse", |word| word.parse::<u32>()))
    /// });
    /// assert!(bad.unwrap_err().to_string().starts_with("step 'parse', partition 'partition-0', offset 1"));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn try_map<U: 'static, E: std::fmt::Display>(
        self,
        name: &str,
        f: impl FnMut(&T) -> Result<U, E> + 'static,
    ) -> Stream<U>
    where
        T: serde::Serialize,
    {
        let step = self.job.step(StepKind::TryMap, name);
        let route = self.job.error_route(&self.chain, &step);
        let outlet = Outlet::new();
        let stage = TryMap::new(&self.chain, &step, f, route.clone(), outlet.clone());
        self.job.attach(&self.outlet, stage);
        let last = Last { step, route: Some(route), untimed: self.last.untimed };
        Stream::new(self.job, self.chain, outlet, last)
    }

    /// Keeps the records for which `f` is true; the others are counted as dropped.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| Ok(job.source("numbers", VecSource::of([1, 2, 3])).filter(|n| n % 2 == 1)))?;
    /// assert_eq!(out, [1, 3]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn filter(self, f: impl FnMut(&T) -> bool + 'static) -> Self {
        self.then(StepKind::Filter, |chain, step, next| Retain::new(chain, step, f, next))
    }

    /// Replaces every record by any number of others.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     Ok(job.source("lines", VecSource::of(["a b", "c"])).flat_map(|line| line.split(' ')))
    /// })?;
    /// assert_eq!(out, ["a", "b", "c"]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        f: impl FnMut(T) -> I + 'static,
    ) -> Stream<U> {
        self.then(StepKind::FlatMap, |chain, step, next| FlatMap::new(chain, step, f, next))
    }

    /// Replaces a record by another, or drops it.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     Ok(job.source("words", VecSource::of(["1", "two"])).filter_map(|word| word.parse::<u32>().ok()))
    /// })?;
    /// assert_eq!(out, [1]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn filter_map<U: 'static>(self, f: impl FnMut(T) -> Option<U> + 'static) -> Stream<U> {
        self.then(StepKind::FilterMap, |chain, step, next| FlatMap::new(chain, step, f, next))
    }

    /// Calls `f` with every record, and passes the record on unchanged.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let (tell, seen) = channel();
    /// let out = collect(move |job| {
    ///     let tell = tell.clone();
    ///     Ok(job.source("numbers", VecSource::of([1, 2])).inspect(move |n| tell.send(*n).expect("somebody listens")))
    /// })?;
    /// assert_eq!(out, [1, 2]);
    /// assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 2]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn inspect(self, f: impl FnMut(&T) + 'static) -> Self {
        self.then(StepKind::Inspect, |chain, step, next| Inspect::new(chain, step, f, next))
    }

    /// Divides the stream in two: what `f` returns as `Ok` goes into the first, what it returns as `Err` into the second.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let numbers = job.source("numbers", VecSource::of([1, -2, 3]));
    ///     let (positive, negative) = numbers.split(|n| if n > 0 { Ok(n as u32) } else { Err(n) });
    ///     negative.sink("negative", tidegate::testing::Discard::named("negative"));
    ///     Ok(positive)
    /// })?;
    /// assert_eq!(out, [1, 3]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn split<A: 'static, B: 'static>(
        self,
        f: impl FnMut(T) -> std::result::Result<A, B> + 'static,
    ) -> (Stream<A>, Stream<B>) {
        let side = Outlet::new();
        let second = side.clone();
        let first = self.then(StepKind::Split, |chain, step, next| Split::new(chain, step, f, next, second));
        let second = first.beside(side);
        (first, second)
    }

    /// Gives every record its event time (milliseconds since the Unix epoch) and says how watermarks follow from it.
    ///
    /// Watermarks are made for every partition of the source, and the least of them counts; so this step must come
    /// before the first one that sends its records to other workers. A watermark follows the batch of records that it was
    /// made from, so lateness is judged by the batch; docs/event-time.md has the details.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let times = job.source("times", VecSource::of([100, 2_500, 900, 3_000]));
    ///     let minutes = times.event_time(|t| *t, Watermarks::bounded(Duration::from_secs(2))).key_by_value(|_| 0u8);
    ///     Ok(minutes.window(Tumbling::of(Duration::from_secs(1))).aggregate("count", Count).map(|w| w.value))
    /// })?;
    /// assert_eq!(out, [2, 1, 1]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn event_time(self, at: impl FnMut(&T) -> i64 + 'static, watermarks: Watermarks) -> Self {
        let step = self.job.numbered_step(StepKind::EventTime);
        let outlet = Outlet::new();
        self.job.declare(&step, "", None, End::Inner);
        let route = self.job.error_route_as_source(&self.chain, &step);
        let stage = EventTime::new(&self.chain, &step, at, watermarks, route.clone(), outlet.clone());
        let stage = Rc::new(RefCell::new(stage));
        self.job.attach(&self.outlet, stage.clone());
        if !self.chain.add_generator(stage) {
            self.job.refuse(Error::job(
                "event_time comes after a step that has records change the worker (key_by, rebalance, broadcast, \
                 union); watermarks are made for every partition of a source: move it before that step",
            ));
        }
        Stream::new(self.job, self.chain, outlet, Last { step, route: Some(route), untimed: None })
    }

    /// Writes the stream to a sink, which makes an epoch's records visible once its snapshot is complete.
    ///
    /// ```
    /// use tidegate::testing::{TestJob, VecSink, VecSource};
    ///
    /// let out = VecSink::new();
    /// let sink = out.clone();
    /// let job = TestJob::new(move |job| {
    ///     job.source("numbers", VecSource::of([1, 2])).sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// assert_eq!(job.run()?.rows_out, 2);
    /// assert_eq!(out.records(), [1, 2]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn sink(self, name: &str, sink: impl TransactionalSink<T>) -> Sink {
        let step = self.job.step(StepKind::Sink, name);
        self.job.sink(&step, (&self.chain, &self.outlet), sink);
        Sink::new(step)
    }

    /// Merges both streams into one. The watermark of the result is the lesser of both.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let mut out = collect(|job| {
    ///     let (a, b) = (VecSource::of([1, 2]), VecSource::of([10, 20]));
    ///     Ok(job.source("small", a).union(job.source("large", b)))
    /// })?;
    /// out.sort_unstable();
    /// assert_eq!(out, [1, 2, 10, 20]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn union(self, other: Self) -> Self
    where
        T: Send,
    {
        let untimed = self.last.untimed.clone().or_else(|| other.last.untimed.clone());
        let step = self.job.numbered_step(StepKind::Union);
        let chain = self.job.chain("union", false);
        let outlet = Outlet::new();
        let merge = Merge::new(2, outlet.clone());
        for (input, stream) in [&self, &other].into_iter().enumerate() {
            let inlet = merge.input(input);
            self.job.local((&stream.chain, &stream.outlet), (&chain, inlet));
        }
        Stream::new(self.job, chain, outlet, Last { step, route: None, untimed })
    }

    /// A stream of the same records behind an exchange between the workers.
    fn exchanged(self, kind: StepKind, route: Route<T>) -> Self
    where
        T: Data,
    {
        let step = self.job.numbered_step(kind);
        let chain = self.job.chain(kind.name(), false);
        let (outlet, inlet) = (Outlet::new(), Outlet::new());
        inlet.attach(outlet.clone());
        self.job.exchange(&step, (&self.chain, &self.outlet), (&chain, inlet), route);
        Stream::new(self.job, chain, outlet, Last { step, route: None, untimed: self.last.untimed })
    }

    /// Distributes the records evenly to all workers, batch by batch.
    ///
    /// ```
    /// use tidegate::testing::{TestJob, VecSink, VecSource};
    ///
    /// let out = VecSink::new();
    /// let sink = out.clone();
    /// let job = TestJob::new(move |job| {
    ///     // One partition is read by one worker; the work on its records is shared by both.
    ///     job.source("numbers", VecSource::of([1, 2, 3])).rebalance().map(|n| n * n).sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// job.parallelism(2).run()?;
    /// assert_eq!(out.sorted(), [1, 4, 9]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn rebalance(self) -> Self
    where
        T: Data,
    {
        self.exchanged(StepKind::Rebalance, Route::RoundRobin)
    }

    /// Sends every record to every worker.
    ///
    /// ```
    /// use tidegate::testing::{TestJob, VecSink, VecSource};
    ///
    /// let out = VecSink::new();
    /// let sink = out.clone();
    /// let job = TestJob::new(move |job| {
    ///     job.source("numbers", VecSource::of([1, 2])).broadcast().sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// job.parallelism(3).run()?;
    /// assert_eq!(out.sorted(), [1, 1, 1, 2, 2, 2]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn broadcast(self) -> Self
    where
        T: Data + Clone,
    {
        self.exchanged(StepKind::Broadcast, Route::Broadcast(Record::clone))
    }

    /// Partitions the stream by a key that is part of the record, which the closure returns by reference.
    ///
    /// For a key that is not a part of the record, such as a tuple of two fields, use [`Stream::key_by_value`]. Given to this
    /// function, such a closure is refused with ``expected `&_`, found `(String, u32)` ``, and with a `&` before it with
    /// "cannot return reference to temporary value". Text is a `String`, not a `&str`: `|r| &r.name`.
    ///
    /// ```
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let orders = job.source("orders", VecSource::of([("ann".to_owned(), 5), ("bob".to_owned(), 7)]));
    ///     Ok(orders.key_by(|order| &order.0).aggregate("orders_of", Count))
    /// })?;
    /// assert_eq!(out, [("ann".to_owned(), 1), ("bob".to_owned(), 1)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn key_by<K: Key>(self, key: impl Fn(&T) -> &K + 'static) -> KeyedStream<K, T>
    where
        T: Data,
    {
        KeyedStream::new(self, KeyFn::Part(Rc::new(key)))
    }

    /// Partitions the stream by a key that is computed from the record: a tuple of two fields, say, or a rounded number.
    ///
    /// The key is computed where the record is sent and once more where it arrives, so [`Stream::key_by`] is cheaper where
    /// the key is a part of the record.
    ///
    /// ```
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let sales = job.source("sales", VecSource::of([(3, 'x', 1.5), (4, 'x', 2.5), (3, 'x', 1.0)]));
    ///     Ok(sales.key_by_value(|sale| (sale.0, sale.1)).aggregate("count", Count))
    /// })?;
    /// assert_eq!(out, [((3, 'x'), 1), ((4, 'x'), 1), ((3, 'x'), 2)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn key_by_value<K: Key>(self, key: impl Fn(&T) -> K + 'static) -> KeyedStream<K, T>
    where
        T: Data,
    {
        KeyedStream::new(self, KeyFn::Computed(Rc::new(key)))
    }
}
