//! Streams with a key: windows, running values, functions with state.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aggregates::{Aggregate, Fold, Mergeable, Reduce};
use crate::api::broadcast::BroadcastConnected;
use crate::api::connected::Connected;
use crate::api::keyed_operator::{KeyedOperator, ProcessOperator};
use crate::api::plain::Stream;
use crate::api::windowed::WindowedStream;
use crate::data::Data;
use crate::dataflow::operator::Operator;
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::partitioner::{KeyReader, Route};
use crate::fingerprint::{state_type, state_type_by_key};
use crate::key::{Key, KeyFn};
use crate::keyed_process::KeyedProcess;
use crate::operators::aggregate::AggregateStep;
use crate::operators::flat_map_with_state::FlatMapWithState;
use crate::operators::key_group_load::KeyGroupLoad;
use crate::operators::local_aggregate::{LocalAggregate, Partial};
use crate::operators::merge::Merge;
use crate::operators::process::{EVENT_TIMERS, PROCESSING_TIMERS, ProcessStep};
use crate::step::{Step, StepKind};
use crate::window::Windows;

/// A stream whose records belong to keys: all records of a key meet on the same worker.
#[must_use = "a keyed stream does nothing until it is windowed, aggregated or processed"]
pub struct KeyedStream<K, T> {
    pub(super) inputs: Vec<Stream<T>>,
    pub(super) key: KeyFn<T, K>,
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    pub(crate) fn new(stream: Stream<T>, key: KeyFn<T, K>) -> Self {
        Self { inputs: vec![stream], key }
    }

    /// A step behind the exchange by key.
    pub(super) fn step(&self, kind: StepKind, name: &str) -> Arc<Step> {
        self.inputs[0].job.step(kind, name)
    }

    /// Puts the operator of a step behind the exchange by key.
    pub(super) fn operator<R>(
        self,
        step: Arc<Step>,
        make: impl FnOnce(&Rc<OperatorChain>, &Arc<Step>, KeyFn<T, K>) -> R,
    ) -> KeyedOperator<R>
    where
        R: Receiver<T> + Operator + 'static,
    {
        let job = self.inputs[0].job.clone();
        let untimed = self.untimed();
        let chain = job.chain(&step.name(), false);
        let operator = Rc::new(RefCell::new(make(&chain, &step, self.key.clone())));
        chain.add(operator.clone());
        let (inlet, counted) = (Outlet::new(), Outlet::new());
        counted.attach(operator);
        let groups = job.worker.process.setup.settings.key_groups;
        let load = Rc::new(RefCell::new(KeyGroupLoad::new(&chain, &step, groups, counted)));
        chain.add(load.clone());
        inlet.attach(load);
        let merge = Merge::new(self.inputs.len(), inlet);
        for (number, input) in self.inputs.iter().enumerate() {
            let keys = KeyReader::new(&input.chain, &step, self.key.clone());
            let route = Route::Keyed(Box::new(keys), groups);
            let to = (&*chain, merge.input(number));
            job.exchange(&step, (&input.chain, &input.outlet), to, route);
        }
        KeyedOperator { job, chain, step, untimed, operator: std::marker::PhantomData }
    }

    /// Puts the first part of an aggregation in two steps in front of the exchange by key: a stream of partial results.
    pub(super) fn partials<A>(
        self,
        step: &Arc<Step>,
        windows: Windows,
        aggregate: &Rc<A>,
    ) -> KeyedStream<K, Partial<K, A::Acc>>
    where
        A: Mergeable<T>,
        A::Acc: Data,
    {
        let Self { inputs, key } = self;
        let partials = inputs.into_iter().map(|input| {
            let outlet = Outlet::new();
            let (place, next) = ((&input.chain, step), outlet.clone());
            let local = LocalAggregate::new(place, key.clone(), windows, aggregate, next);
            let local = Rc::new(RefCell::new(local));
            input.job.attach(&input.outlet, local.clone());
            input.chain.add_combiner(local);
            input.beside(outlet)
        });
        KeyedStream { inputs: partials.collect(), key: KeyFn::Part(Rc::new(|partial| &partial.key)) }
    }

    /// The source whose records have come here without an event time, if there is one.
    pub(super) fn untimed(&self) -> Option<Arc<Step>> {
        self.inputs.iter().find_map(|input| input.untimed().cloned())
    }

    /// Divides the stream of every key into windows.
    ///
    /// Windows of event time need records with an event time: a job without [`Stream::event_time`] between the source and such
    /// windows is refused before it starts. Windows of processing time need none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Tumbling, Watermarks};
    ///
    /// let out = collect(|job| {
    ///     let times = job.source("times", VecSource::of([100, 900, 1_200]));
    ///     let keyed = times.event_time(|t| *t, Watermarks::monotonous()).key_by_value(|_| "all".to_owned());
    ///     Ok(keyed.window(Tumbling::of(Duration::from_secs(1))).aggregate("count", Count))
    /// })?;
    /// assert_eq!((out[0].window.start, out[0].window.end, out[0].value), (0, 1_000, 2));
    /// assert_eq!((out[1].window.start, out[1].window.end, out[1].value), (1_000, 2_000, 1));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn window(self, windows: Windows) -> WindowedStream<K, T> {
        WindowedStream { stream: self, windows, lateness_ms: 0 }
    }

    /// Keeps one value a key, which every record updates; emits the value after every record, with the event time of that
    /// record.
    ///
    /// ```
    /// use tidegate::aggregates::Count;
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     Ok(job.source("numbers", VecSource::of([7, 8, 7])).key_by(|n| n).aggregate("count", Count))
    /// })?;
    /// assert_eq!(out, [(7, 1), (8, 1), (7, 2)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn aggregate<A: Aggregate<T>>(self, name: &str, aggregate: A) -> Stream<(K, A::Out)> {
        let outlet = Outlet::new();
        let (next, state) = (outlet.clone(), state_type_by_key::<K, _>(&aggregate.create()));
        let step = self.step(StepKind::Aggregate, name);
        let built =
            self.operator(step, |chain, step, key| AggregateStep::new(chain, step, key, aggregate, next));
        built.declare("", state);
        built.stream(outlet)
    }

    /// Adds every record to one value a key by `f`; emits the value after every record, with the event time of that record.
    /// The value of a key begins as a copy of `initial`.
    ///
    /// It is the [`aggregate`](Self::aggregate) of a closure, and its value is part of snapshots. Its type follows from
    /// `initial`, that of the records from the stream.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let sales = job.source("sales", VecSource::of([(1, 10.0), (2, 5.0), (1, 30.0)])).key_by(|sale| &sale.0);
    ///     Ok(sales.fold("total", 0.0, |total, sale| *total += sale.1))
    /// })?;
    /// assert_eq!(out, [(1, 10.0), (2, 5.0), (1, 40.0)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn fold<A>(self, name: &str, initial: A, f: impl Fn(&mut A, &T) + 'static) -> Stream<(K, A)>
    where
        A: Clone + Serialize + DeserializeOwned + 'static,
    {
        self.aggregate(name, Fold { initial, f })
    }

    /// Folds the records of every key into one by `f`; emits the result after every record.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let sales = job.source("sales", VecSource::of([(1, 10), (2, 5), (1, 30)]));
    ///     Ok(sales.key_by(|sale| &sale.0).reduce("total", |total, sale| total.1 += sale.1).map(|(_, total)| total))
    /// })?;
    /// assert_eq!(out, [(1, 10), (2, 5), (1, 40)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn reduce(self, name: &str, f: impl Fn(&mut T, &T) + 'static) -> Stream<(K, T)>
    where
        T: Clone,
    {
        self.aggregate(name, Reduce(f))
    }

    /// Makes one record of every record with the state of its key, which begins as the default of its type. The result has
    /// the event time of the record.
    ///
    /// The closure's first argument names the type of the state; the rest is inferred.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let levels = job.source("levels", VecSource::of([("north", 3.0), ("south", 1.5), ("north", 2.0)]));
    ///     let levels = levels.map(|(gauge, level)| (gauge.to_owned(), level)).key_by(|level| &level.0);
    ///     Ok(levels.map_with_state("highest", |highest: &mut f64, (gauge, level)| {
    ///         *highest = highest.max(level);
    ///         (gauge, *highest)
    ///     }))
    /// })?;
    /// assert_eq!(out.iter().map(|(_, highest)| *highest).collect::<Vec<_>>(), [3.0, 1.5, 3.0]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// See [`flat_map_with_state`](Self::flat_map_with_state) for the types that the state can have, and for the limits.
    pub fn map_with_state<S, O, F>(self, name: &str, mut f: F) -> Stream<O>
    where
        S: Serialize + DeserializeOwned + Default + 'static,
        O: 'static,
        F: FnMut(&mut S, T) -> O + 'static,
    {
        self.flat_map_with_state(name, move |state: &mut S, record| Some(f(state, record)))
    }

    /// Makes any number of records of every record with the state of its key, which begins as the default of its type. The
    /// results have the event time of the record.
    ///
    /// The closure returns whatever can be iterated over: an `Option`, an array, a `Vec`, an iterator. It cannot borrow from
    /// the state. The closure's first argument names the type of the state; the rest is inferred.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// // Emits a value only if it differs from the previous one of the same sensor.
    /// let out = collect(|job| {
    ///     let values = job.source("values", VecSource::of([(1, 20), (1, 20), (2, 20), (1, 21)]));
    ///     Ok(values.key_by(|value| &value.0).flat_map_with_state("changes", |last: &mut Option<i32>, (sensor, value)| {
    ///         let changed = last.replace(value) != Some(value);
    ///         changed.then_some((sensor, value))
    ///     }))
    /// })?;
    /// assert_eq!(out, [(1, 20), (2, 20), (1, 21)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// The state is part of snapshots and can have the types that are listed [here](KeyedProcess#what-can-be-kept). It counts
    /// as changed by every record, and is kept for ever from the first record of its key on. A function that reads more
    /// than it changes, removes state, needs timers, or can fail is a [`KeyedProcess`]. One with the same name and type of
    /// state goes on from the snapshots of a closure, and the other way round.
    pub fn flat_map_with_state<S, I, F>(self, name: &str, f: F) -> Stream<I::Item>
    where
        S: Serialize + DeserializeOwned + Default + 'static,
        I: IntoIterator<Item: 'static>,
        F: FnMut(&mut S, T) -> I + 'static,
    {
        let (built, outlet, _) = self.process_operator(name, FlatMapWithState::new(f));
        built.stream(outlet)
    }

    /// Runs a function with state and timers; see [`KeyedProcess`] for examples.
    ///
    /// Late records are not dropped here: the function receives them like all others, and can compare their event time with
    /// the watermark, [`Times`](crate::Times).
    pub fn process<F: KeyedProcess<Key = K, In = T>>(self, name: &str, f: F) -> Stream<F::Out> {
        self.process_with_side(name, f).0
    }

    /// Runs a function with state and timers; the second stream is its side output.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, Discard, collect};
    /// use tidegate::{Context, KeyedProcess, Result};
    ///
    /// /// Lets the first record of a key through; the others go to the side.
    /// struct First;
    ///
    /// impl KeyedProcess for First {
    ///     type Key = u32;
    ///     type In = u32;
    ///     type State = bool;
    ///     type Out = u32;
    ///     type Side = u32;
    ///
    ///     fn on_record(&mut self, n: u32, context: &mut Context<'_, Self>) -> Result<()> {
    ///         if std::mem::replace(context.state.get_mut(), true) {
    ///             context.side.emit(n);
    ///         } else {
    ///             context.out.emit(n);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let again = collect(|job| {
    ///     let numbers = job.source("numbers", VecSource::of([1, 2, 1])).key_by(|n| n);
    ///     let (first, again) = numbers.process_with_side("first", First);
    ///     first.sink("first_out", Discard::named("first"));
    ///     Ok(again)
    /// })?;
    /// assert_eq!(again, [1]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn process_with_side<F: KeyedProcess<Key = K, In = T>>(
        self,
        name: &str,
        f: F,
    ) -> (Stream<F::Out>, Stream<F::Side>) {
        let (built, outlet, side) = self.process_operator(name, f);
        // Timers give records an event time, so it is known only for each record whether it has one.
        (built.timed_stream(outlet), built.timed_stream(side))
    }

    /// The operator of a process function, with its output and its side output.
    pub(super) fn process_operator<F: KeyedProcess<Key = K, In = T>>(
        self,
        name: &str,
        f: F,
    ) -> ProcessOperator<F> {
        let (outlet, side) = (Outlet::new(), Outlet::new());
        let (next, next_side) = (outlet.clone(), side.clone());
        let job = self.inputs[0].job.clone();
        let is_timed_too = self.inputs.iter().any(|input| input.untimed().is_none());
        let untimed = self.untimed().filter(|source| is_timed_too || job.is_followed(source));
        let without_time = untimed.map(|source| source.name());
        let step = self.step(StepKind::Process, name);
        let built = self.operator(step, |chain, step, key| {
            ProcessStep::new(chain, step, key, f, next, next_side).without_time(without_time)
        });
        built.declare("", state_type_by_key::<K, _>(&F::State::default()));
        built.declare(EVENT_TIMERS, state_type::<K>());
        built.declare(PROCESSING_TIMERS, state_type::<K>());
        (built, outlet, side)
    }

    /// Connects this stream with another one of the same key: a function behind them receives the records of both, with one
    /// state a key.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    /// use tidegate::{Context, Either, KeyedProcess, Result};
    ///
    /// /// What a customer has ordered, less what was paid.
    /// struct Balance;
    ///
    /// impl KeyedProcess for Balance {
    ///     type Key = u32;
    ///     type In = Either<(u32, i64), (u32, i64)>;
    ///     type State = i64;
    ///     type Out = (u32, i64);
    ///     type Side = ();
    ///
    ///     fn on_record(&mut self, record: Self::In, context: &mut Context<'_, Self>) -> Result<()> {
    ///         let balance = context.state.get_mut();
    ///         match record {
    ///             Either::Left((_, ordered)) => *balance += ordered,
    ///             Either::Right((_, paid)) => *balance -= paid,
    ///         }
    ///         context.out.emit((*context.key, *balance));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let out = collect(|job| {
    ///     let orders = job.source("orders", VecSource::of([(1, 30)])).key_by(|o| &o.0);
    ///     let payments = job.source("payments", VecSource::of([(1, 20)])).key_by(|p| &p.0);
    ///     Ok(orders.connect(payments).process("balance", Balance))
    /// })?;
    /// assert_eq!(out.last(), Some(&(1, 10)));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn connect<R: Data>(self, other: KeyedStream<K, R>) -> Connected<K, T, R> {
        Connected { left: self, right: other }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Lets a function behind this stream receive every record of another stream, on every worker.
    ///
    /// ```
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    /// use tidegate::{BroadcastContext, BroadcastProcess, Result};
    ///
    /// /// Lets numbers above the last threshold through.
    /// struct Above;
    ///
    /// impl BroadcastProcess for Above {
    ///     type Key = i64;
    ///     type In = i64;
    ///     type Broadcast = i64;
    ///     type State = ();
    ///     type Shared = i64;
    ///     type Out = i64;
    ///     type Side = ();
    ///
    ///     fn on_broadcast(&mut self, threshold: i64, shared: &mut i64) -> Result<()> {
    ///         *shared = threshold;
    ///         Ok(())
    ///     }
    ///
    ///     fn on_record(
    ///         &mut self,
    ///         number: i64,
    ///         threshold: &i64,
    ///         context: &mut BroadcastContext<'_, Self>,
    ///     ) -> Result<()> {
    ///         if number > *threshold {
    ///             context.out.emit(number);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (numbers, thresholds, out) = (TestSource::new(1), TestSource::new(1), VecSink::new());
    /// let (from, heard, sink) = (numbers.clone(), thresholds.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let thresholds = job.source("thresholds", heard.clone());
    ///     let numbers = job.source("numbers", from.clone()).key_by(|n| n);
    ///     numbers.connect_broadcast(thresholds).process("above", Above).sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// let running = job.start();
    /// thresholds.push(0, 10);
    /// running.checkpoint();
    /// numbers.extend(0, [5, 15]);
    /// numbers.end();
    /// thresholds.end();
    /// running.wait()?;
    /// assert_eq!(out.records(), [15]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn connect_broadcast<B: Data + Clone>(self, other: Stream<B>) -> BroadcastConnected<K, T, B> {
        BroadcastConnected { keyed: self, broadcast: other }
    }
}
