//! Streams with a key: windows, running values, functions with state.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::chain::{Outlet, Receiver};
use crate::dataflow::host::Host;
use crate::dataflow::outbox::Route;
use crate::element::Element;
use crate::error::Error;
use crate::key::{Key, KeyFn};
use crate::metrics::Step;
use crate::operators::aggregate::AggregateStep;
use crate::operators::broadcast;
use crate::operators::merge::Merge;
use crate::operators::process::{EVENT_TIMERS, PROCESSING_TIMERS, ProcessStep};
use crate::operators::window::{WindowDef, WindowStep};
use crate::process_fn::{BroadcastProcess, KeyedProcess};
use crate::record::Data;
use crate::state::shape::state_type;
use crate::stream::job::End;
use crate::stream::plain::{Last, Stream};
use crate::window::{Aggregate, Windowed, Windows};

/// A stream whose records belong to keys: all records of a key meet on the same worker.
#[must_use = "a keyed stream does nothing until it is windowed, aggregated or processed"]
pub struct KeyedStream<K, T> {
    inputs: Vec<Stream<T>>,
    key: KeyFn<T, K>,
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    pub(crate) fn new(stream: Stream<T>, key: KeyFn<T, K>) -> Self {
        Self { inputs: vec![stream], key }
    }

    /// Puts an operator behind the exchange by key.
    fn operator<R>(
        self,
        kind: &'static str,
        name: &str,
        make: impl FnOnce(&Rc<Host>, &Arc<Step>, KeyFn<T, K>) -> R,
    ) -> Built<R>
    where
        R: Receiver<T> + Element + 'static,
    {
        let job = self.inputs[0].job.clone();
        let step = job.step(kind, name);
        let host = job.graph.borrow_mut().host(name, &job.worker, false);
        let operator = Rc::new(RefCell::new(make(&host, &step, self.key.clone())));
        host.add(operator.clone());
        let inlet = Outlet::new();
        inlet.attach(operator);
        let merge = Merge::new(self.inputs.len(), inlet);
        let groups = job.worker.process.settings.key_groups;
        for (number, input) in self.inputs.iter().enumerate() {
            let route = Route::Keyed(Box::new(self.key.clone()), groups);
            let to = (&*host, merge.input(number));
            job.graph.borrow_mut().exchange((&input.host, &input.outlet), to, route);
        }
        Built { job, host, step, operator: std::marker::PhantomData }
    }

    /// Divides the stream of every key into windows.
    pub fn window(self, windows: Windows) -> WindowedStream<K, T> {
        if let Some(problem) = windows.problem() {
            self.inputs[0].job.refuse(Error::job(problem));
        }
        WindowedStream { stream: self, windows, lateness_ms: 0 }
    }

    /// Keeps one value a key, which every record changes; puts it out every time.
    pub fn aggregate<A: Aggregate<T>>(self, name: &str, aggregate: A) -> Stream<(K, A::Out)> {
        let outlet = Outlet::new();
        let next = outlet.clone();
        let built = self.operator("aggregate", name, |host, step, key| {
            AggregateStep::new(host, step, key, aggregate, next)
        });
        built.declare::<A::Acc>("");
        built.stream(outlet)
    }

    /// Folds the records of every key into one by `f`; puts the result out every time.
    pub fn reduce(self, name: &str, f: impl Fn(&mut T, &T) + 'static) -> Stream<(K, T)>
    where
        T: Clone,
    {
        self.aggregate(name, Reduce(f))
    }

    /// Runs a function with state and timers.
    pub fn process<F: KeyedProcess<K, T>>(self, name: &str, f: F) -> Stream<F::Out> {
        self.process_with_side(name, f).0
    }

    /// Runs a function with state and timers; the second stream is its side output.
    pub fn process_with_side<F: KeyedProcess<K, T>>(
        self,
        name: &str,
        f: F,
    ) -> (Stream<F::Out>, Stream<F::Side>) {
        let (outlet, side) = (Outlet::new(), Outlet::new());
        let (next, next_side) = (outlet.clone(), side.clone());
        let built = self.operator("process", name, |host, step, key| {
            ProcessStep::new(host, step, key, f, next, next_side)
        });
        built.declare::<F::State>("");
        built.declare::<K>(EVENT_TIMERS);
        built.declare::<K>(PROCESSING_TIMERS);
        (built.stream(outlet), built.stream(side))
    }

    /// Brings another stream of the same key together with this one: a function behind it sees the records of both, and
    /// shares one state a key.
    pub fn connect<R: Data>(self, other: KeyedStream<K, R>) -> Connected<K, T, R> {
        Connected { left: self, right: other }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Lets a function behind this stream hear every record of another stream, on every worker.
    pub fn connect_broadcast<B: Data + Clone>(self, other: Stream<B>) -> BroadcastConnected<K, T, B> {
        BroadcastConnected { keyed: self, broadcast: other }
    }
}

/// A keyed stream, and a stream that all of its workers hear.
#[must_use = "connected streams do nothing until they are processed"]
pub struct BroadcastConnected<K, T, B> {
    keyed: KeyedStream<K, T>,
    broadcast: Stream<B>,
}

impl<K: Key, T: Data, B: Data + Clone> BroadcastConnected<K, T, B> {
    /// Runs a function with state and timers over the keyed stream, which also hears the broadcast stream.
    pub fn process<F: BroadcastProcess<K, T, B>>(self, name: &str, f: F) -> Stream<F::Out> {
        self.process_with_side(name, f).0
    }

    /// The same; the second stream is the function's side output.
    pub fn process_with_side<F: BroadcastProcess<K, T, B>>(
        self,
        name: &str,
        f: F,
    ) -> (Stream<F::Out>, Stream<F::Side>) {
        let both = broadcast::pair::<K, T, B, F>(f);
        let adapter = broadcast::Adapter(both.clone(), std::marker::PhantomData);
        let (main, side) = self.keyed.process_with_side(name, adapter);
        let Stream { job, host, .. } = &main;
        let listener = Rc::new(RefCell::new(broadcast::Listener::new(host, main.step(), both)));
        host.add(listener.clone());
        job.declare(main.step(), broadcast::SHARED, Some(state_type::<F::Shared>()), End::Inner);
        let inlet = Outlet::new();
        inlet.attach(listener);
        let from = (&*self.broadcast.host, &self.broadcast.outlet);
        job.graph.borrow_mut().exchange(from, (host, inlet), Route::Broadcast(crate::record::Rec::clone));
        (main, side)
    }
}

/// `f` as an aggregate.
struct Reduce<F>(F);

impl<T: Data + Clone, F: Fn(&mut T, &T) + 'static> Aggregate<T> for Reduce<F> {
    type Acc = Option<T>;
    type Out = T;

    fn create(&self) -> Option<T> {
        None
    }

    fn add(&self, acc: &mut Option<T>, record: &T) {
        match acc {
            Some(value) => (self.0)(value, record),
            None => *acc = Some(record.clone()),
        }
    }

    fn finish(&self, acc: &Option<T>) -> T {
        acc.clone().expect("an accumulator has met at least one record before it is finished")
    }
}

/// An operator that has its place in the graph.
struct Built<R> {
    job: Rc<crate::stream::job::JobInner>,
    host: Rc<Host>,
    step: Arc<Step>,
    operator: std::marker::PhantomData<R>,
}

impl<R> Built<R> {
    fn declare<S: serde::de::DeserializeOwned>(&self, suffix: &'static str) {
        self.job.declare(&self.step, suffix, Some(state_type::<S>()), End::Inner);
    }

    fn stream<U: 'static>(&self, outlet: Outlet<U>) -> Stream<U> {
        let last = Last { step: self.step.clone(), route: None };
        Stream::new(self.job.clone(), self.host.clone(), outlet, last)
    }
}

/// A keyed stream divided into windows.
#[must_use = "windows do nothing until they are aggregated"]
pub struct WindowedStream<K, T> {
    stream: KeyedStream<K, T>,
    windows: Windows,
    lateness_ms: i64,
}

impl<K: Key, T: Data> WindowedStream<K, T> {
    /// Keeps a window this long after it has fired; a record that comes for it in that time has it put out again.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness_ms = lateness.as_millis() as i64;
        self
    }

    /// Computes a value for every key and window, put out when the watermark passes the window's end. Records that come
    /// too late are counted and dropped.
    pub fn aggregate<A: Aggregate<T>>(self, name: &str, aggregate: A) -> Stream<Windowed<K, A::Out>> {
        self.build(name, aggregate, None)
    }

    /// The same, with the records that come too late in a stream of their own.
    pub fn aggregate_with_late<A: Aggregate<T>>(
        self,
        name: &str,
        aggregate: A,
    ) -> (Stream<Windowed<K, A::Out>>, Stream<T>) {
        let late = Outlet::new();
        let main = self.build(name, aggregate, Some(late.clone()));
        let late = main.beside(late);
        (main, late)
    }

    fn build<A: Aggregate<T>>(
        self,
        name: &str,
        aggregate: A,
        late_to: Option<Outlet<T>>,
    ) -> Stream<Windowed<K, A::Out>> {
        let outlet = Outlet::new();
        let (windows, lateness_ms, next) = (self.windows, self.lateness_ms, outlet.clone());
        let built = self.stream.operator("window", name, |host, step, key| {
            WindowStep::new(host, step, WindowDef { key, windows, lateness_ms, aggregate, next, late_to })
        });
        built.declare::<A::Acc>("");
        built.stream(outlet)
    }
}

/// A record of one of two connected streams.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Either<L, R> {
    /// Of the stream that [`KeyedStream::connect`] was called on.
    Left(L),
    /// Of the other.
    Right(R),
}

/// Two streams of the same key.
#[must_use = "connected streams do nothing until they are processed"]
pub struct Connected<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
}

impl<K: Key, L: Data, R: Data> Connected<K, L, R> {
    /// Runs a function with state and timers over the records of both; its watermark is the lesser of both.
    pub fn process<F: KeyedProcess<K, Either<L, R>>>(self, name: &str, f: F) -> Stream<F::Out> {
        let (left_key, right_key) = (self.left.key, self.right.key);
        let key = KeyFn::Computed(Rc::new(move |record: &Either<L, R>| match record {
            Either::Left(record) => left_key.with(record, K::clone),
            Either::Right(record) => right_key.with(record, K::clone),
        }));
        let left = self.left.inputs.into_iter().map(|input| input.map(Either::Left));
        let right = self.right.inputs.into_iter().map(|input| input.map(Either::Right));
        KeyedStream { inputs: left.chain(right).collect(), key }.process(name, f)
    }
}
