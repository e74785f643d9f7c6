//! The job that is being described.

use std::any::TypeId;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_connector_api::{
    Owner, Position, PositionCommitter, Publisher, SinkId, SinkTarget, Source, TransactionalSink,
};

use tidegate_protocol::manifest::StateType;

use crate::api::outline::{Outline, Part};
use crate::api::plain::{Last, Stream};
use crate::checkpoint::job_sink::PublishedSink;
use crate::data::Data;
use crate::dataflow::graph::Graph;
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::partitioner::Route;
use crate::dataflow::worker::BuildGraph;
use crate::dataflow::worker_context::WorkerContext;
use crate::fingerprint::{readable, record_type};
use crate::operators::error_route::ErrorRoute;
use crate::operators::sink::SinkStep;
use crate::operators::source::SourceStep;
use crate::panics::catch_in_build;
use crate::step::{Step, StepKind};
use tidegate_protocol::{Error, Result, Slot};

/// A dataflow that is being described; the build function of a job gets one.
///
/// The build function runs once on every worker, and once more when the job is checked before it starts: it must
/// describe the same dataflow every time. A worker that describes other steps, or the same in another order (because the
/// function loops over a `HashMap`, say), ends the job with the first difference; what a step's function does is not
/// compared.
///
/// # What a closure may hold
///
/// The closures that are given to steps live as long as the job, much longer than the build function. One that uses `args` of
/// the build function is refused with "borrowed data escapes outside of function", and `move` alone changes nothing: it
/// moves the reference. Copy or clone what the closure needs, and move the copy into it:
///
/// ```
/// # use tidegate::testing::{Discard, VecSource};
/// # use tidegate::{Job, Result};
/// # struct Args { factor: f64 }
/// fn build(job: &mut Job, args: &Args) -> Result<()> {
///     let factor = args.factor;
///     let prices = job.source("prices", VecSource::of([1.0, 2.0]));
///     prices.map(move |price| price * factor).sink("out", Discard::named("out"));
///     Ok(())
/// }
/// ```
///
/// What a closure keeps in itself from one record to the next (a counter, a cache) is not state: it is not in snapshots, begins
/// anew at every start, and every worker has one of its own. What must survive a restart belongs in an
/// [aggregate](crate::Aggregate) or a [function with state](crate::KeyedProcess).
pub struct Job {
    pub(crate) inner: Rc<JobInner>,
}

/// Describes a job.
pub(crate) type BuildJob = Arc<dyn Fn(&mut Job) -> Result<()> + Send + Sync>;

/// Builds the graph of a worker from the job's description. A worker that describes another dataflow than `checked` is
/// refused before anything is wired: workers that differ would wait for each other, or misinterpret each other's records.
pub(crate) fn graph_builder(build: BuildJob, checked: Outline) -> BuildGraph {
    Arc::new(move |worker| {
        let mut job = Job::new(worker.clone());
        catch_in_build(|| build(&mut job))?;
        checked.check(worker.slot, &job.outline())?;
        job.into_graph()
    })
}

/// Whether anything takes the records of a stream.
type IsUsed = Box<dyn Fn() -> bool>;

pub(crate) struct JobInner {
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) graph: RefCell<Graph>,
    steps: RefCell<Vec<Arc<Step>>>,
    declared: RefCell<Vec<Declared>>,
    routes: RefCell<Vec<Rc<ErrorRoute>>>,
    /// Every stream, by the step that it comes out of, and whether anything takes its records, if it has any.
    streams: RefCell<Vec<(Arc<Step>, Option<IsUsed>)>>,
    /// Everything that was described, in its order.
    parts: RefCell<Vec<Part>>,
    /// What is wrong with the description, and with which step of it.
    errors: RefCell<Vec<(Option<Arc<Step>>, Error)>>,
}

/// What a step keeps in snapshots, and what it reads from or writes to outside of the job.
pub(crate) struct Declared {
    pub(crate) step: Arc<Step>,
    /// Appended to the step's uid, for a step with more than one kind of state.
    pub(crate) suffix: &'static str,
    pub(crate) state: Option<StateType>,
    pub(crate) end: End,
}

/// What an operator reads from or writes to outside of the job.
pub(crate) enum End {
    Inner,
    Source(Arc<dyn Listed>),
    Sink(Arc<dyn PublishedSink>),
}

/// A source as the driver sees it.
pub(crate) trait Listed: Send + Sync {
    fn uri(&self) -> Result<String>;
    fn partitions(&self) -> Result<Vec<String>>;
    fn bounded(&self) -> bool;
    fn has_more(&self, partition: &str, position: &Position) -> Result<bool>;
    fn committer(&self) -> Result<Option<Box<dyn PositionCommitter>>>;
}

impl<S: Source> Listed for S {
    fn uri(&self) -> Result<String> {
        S::uri(self)
    }
    fn partitions(&self) -> Result<Vec<String>> {
        S::partitions(self)
    }
    fn bounded(&self) -> bool {
        S::bounded(self)
    }
    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        S::has_more(self, partition, position)
    }
    fn committer(&self) -> Result<Option<Box<dyn PositionCommitter>>> {
        S::committer(self)
    }
}

/// A sink without the type of its records.
struct TypedSink<T, S>(Arc<S>, std::marker::PhantomData<fn(T)>);

impl<T: 'static, S: TransactionalSink<T>> PublishedSink for TypedSink<T, S> {
    fn uri(&self) -> Result<String> {
        self.0.uri()
    }
    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        self.0.target(owner)
    }
    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        self.0.publisher(sink, slot)
    }
}

/// A sink that was added to a job. All that can be set on it is its uid.
pub struct Sink(Arc<Step>);

impl Sink {
    pub(crate) fn new(step: Arc<Step>) -> Self {
        Self(step)
    }

    /// Fixes what the sink is called in snapshots, so that its name can change.
    ///
    /// ```
    /// use tidegate::testing::{Discard, TestJob, VecSource};
    ///
    /// let job = TestJob::new(|job| {
    ///     // Called "archive" in metrics from now on; snapshots know it as "out", as it was called before.
    ///     job.source("numbers", VecSource::of([1, 2])).sink("archive", Discard::named("out")).uid("out");
    ///     Ok(())
    /// });
    /// assert_eq!(job.run()?.rows_out, 2);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn uid(self, uid: &str) {
        self.0.set_uid(uid);
    }
}

impl Job {
    pub(crate) fn new(worker: Rc<WorkerContext>) -> Self {
        let inner = JobInner {
            worker,
            graph: RefCell::default(),
            steps: RefCell::default(),
            declared: RefCell::default(),
            routes: RefCell::default(),
            streams: RefCell::default(),
            parts: RefCell::default(),
            errors: RefCell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Adds a source. Its name is its identity in snapshots, and appears in dead letters and metrics.
    ///
    /// Records that the source cannot read end the job, unless [`Stream::dead_letters`] or [`Stream::on_error`] follows.
    ///
    /// ```
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| Ok(job.source("words", VecSource::partitions([["a", "b"], ["c", "d"]]))))?;
    /// assert_eq!(out.len(), 4);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn source<S: Source>(&mut self, name: &str, mut source: S) -> Stream<S::Item> {
        let inner = &self.inner;
        let step = inner.step(StepKind::Source, name);
        if inner.worker.process.setup.settings.follow {
            source.follow();
        }
        let source = Arc::new(source);
        let chain = inner.chain(name, true);
        let route = inner.error_route(&chain, &step);
        let outlet = Outlet::new();
        inner.declare(&step, "", None, End::Source(source.clone()));
        let source = SourceStep::new(source, &step, chain.clone(), outlet.clone(), route.clone());
        let source = Rc::new(RefCell::new(source));
        chain.add(source.clone());
        inner.graph.borrow_mut().set_source(&chain, Box::new(source));
        let last = Last { step: step.clone(), route: Some(route), untimed: Some(step) };
        Stream::new(inner.clone(), chain, outlet, last)
    }

    /// Sends records of exactly this type to other workers as they lie in memory, instead of writing and reading them. Called
    /// in the build function, before the streams of such records. With the feature `abomonation`.
    ///
    /// Records of numbers take a third of the CPU time in the codec, and records with texts three quarters, with twice the
    /// bytes ([figures](https://github.com/tidegate/tidegate/blob/main/docs/performance.md)). The codec is a small part of most
    /// jobs: measure before you use this.
    ///
    /// **Warning**: the crate `abomonation`, which does this, is not maintained, and has a known defect,
    /// [RUSTSEC-2021-0120](https://rustsec.org/advisories/RUSTSEC-2021-0120.html): it reads and moves memory in ways that
    /// Rust does not define. Bytes that are changed on their way can have any effect in the process that receives them,
    /// where serde's format is checked: use it on a network that you trust.
    ///
    /// ```
    /// use abomonation::Abomonation;
    /// use serde::{Deserialize, Serialize};
    /// use tidegate::testing::{TestJob, VecSink, VecSource};
    ///
    /// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// struct Reading {
    ///     device: String,
    ///     value: f64,
    /// }
    ///
    /// // With the parts of it that are behind a pointer.
    /// abomonation::unsafe_abomonate!(Reading: device);
    ///
    /// let reading = Reading { device: "pump".to_owned(), value: 71.5 };
    /// let (readings, out) = (VecSource::of([reading.clone()]), VecSink::new());
    /// let sink = out.clone();
    /// let job = TestJob::new(move |job| {
    ///     // SAFETY: a number, and a text that is named above.
    ///     unsafe { job.abomonate::<Reading>() };
    ///     job.source("readings", readings.clone()).rebalance().sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// job.parallelism(2).over_the_wire().run()?;
    /// assert_eq!(out.records(), [reading]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Safety
    /// - `Abomonation` is implemented for the type as its docs say: all parts behind pointers are named.
    /// - Those parts are texts and bytes (`String`, `Vec<u8>`, options of them). Values with an alignment, such as those of
    ///   `Vec<u64>` or `Box<u64>`, would be read at addresses that do not fit.
    /// - All processes of the job run the same executable. On a cluster they do: a taskmanager starts an executable only if its
    ///   SHA-256 is the one that was submitted.
    /// - Nobody changes bytes between the processes.
    #[cfg(feature = "abomonation")]
    pub unsafe fn abomonate<T: Data + Clone + abomonation::Abomonation>(&mut self) {
        // SAFETY: what the caller promises.
        unsafe { crate::dataflow::abomonated::register::<T>() };
    }

    /// The graph, once the description is complete and sound.
    pub(crate) fn into_graph(self) -> Result<Graph> {
        self.check()?;
        if Rc::strong_count(&self.inner) > 1 {
            return Err(Error::job("a stream was kept beyond the build function"));
        }
        Ok(self.inner.graph.take())
    }

    /// Checks the description for errors.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some((step, error)) = self.inner.errors.borrow_mut().drain(..).next() {
            return Err(match step {
                Some(step) => error.context(format!("step '{}'", step.name())),
                None => error,
            });
        }
        self.inner.routes.borrow().iter().try_for_each(|route| route.check())?;
        let mut uids = std::collections::HashMap::new();
        for step in self.inner.steps.borrow().iter() {
            if let Some(other) = uids.insert(step.uid(), step.kind()) {
                return Err(Error::job(format!(
                    "two steps are called '{}' (a {other} and a {}); their state would get mixed up in a snapshot: \
                     give one of them another name, or a .uid(\"..\") of its own",
                    step.uid(),
                    step.kind()
                )));
            }
        }
        if self.inner.graph.borrow().sources() == 0 {
            return Err(Error::job("the job has no source"));
        }
        Ok(())
    }

    /// Warnings about what is valid, but probably unintended: steps none of whose streams is read. For a step with two
    /// streams, such as a function with a side output, it is enough that one of them is read.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let streams = self.inner.streams.borrow();
        let outputs = || streams.iter().filter_map(|(of, is_used)| Some((of, is_used.as_ref()?)));
        let is_used = |step: &Arc<Step>| outputs().any(|(of, is_used)| Arc::ptr_eq(of, step) && is_used());
        let mut unused: Vec<&Arc<Step>> = Vec::new();
        for (step, _) in outputs() {
            if !is_used(step) && !unused.iter().any(|other| Arc::ptr_eq(other, step)) {
                unused.push(step);
            }
        }
        let warning = |step: &Arc<Step>| {
            format!(
                "the stream behind the {} '{}' ends in no sink: its records are dropped; add .sink(\"name\", ..) to \
                 write them",
                step.kind(),
                step.name()
            )
        };
        unused.into_iter().map(warning).collect()
    }

    /// What was described, to be compared with what is described at other calls.
    pub(crate) fn outline(&self) -> Outline {
        Outline::of(&self.inner.parts.borrow())
    }

    pub(crate) fn take_declared(&self) -> Vec<Declared> {
        self.inner.declared.take()
    }

    pub(crate) fn steps(&self) -> Vec<Arc<Step>> {
        self.inner.steps.borrow().clone()
    }
}

/// Releases all steps of a job that is not going to run. The graph of a job that runs was taken out before.
impl Drop for Job {
    fn drop(&mut self) {
        self.inner.graph.borrow().chains().for_each(|chain| chain.close());
    }
}

impl JobInner {
    /// A step with a name that the author gave.
    pub(crate) fn step(&self, kind: StepKind, name: &str) -> Arc<Step> {
        self.add_step(Step::new(kind, name))
    }

    /// A step that is named after another one.
    pub(crate) fn step_after(&self, kind: StepKind, other: &Arc<Step>) -> Arc<Step> {
        self.add_step(Step::after(kind, other))
    }

    fn add_step(&self, step: Arc<Step>) -> Arc<Step> {
        self.steps.borrow_mut().push(step.clone());
        self.part(Part::Step(step.clone()));
        step
    }

    fn part(&self, part: Part) {
        self.parts.borrow_mut().push(part);
    }

    /// A step that is named by its kind and number until the author names it.
    pub(crate) fn numbered_step(&self, kind: StepKind) -> Arc<Step> {
        let number = self.steps.borrow().iter().filter(|s| s.kind() == kind).count() + 1;
        self.step(kind, &format!("{kind}-{number}"))
    }

    pub(crate) fn declare(&self, step: &Arc<Step>, suffix: &'static str, state: Option<StateType>, end: End) {
        self.declared.borrow_mut().push(Declared { step: step.clone(), suffix, state, end });
    }

    /// True if a step is a source that is not bounded.
    pub(crate) fn is_followed(&self, step: &Arc<Step>) -> bool {
        let declared = self.declared.borrow();
        declared.iter().any(|declared| match &declared.end {
            End::Source(source) => Arc::ptr_eq(&declared.step, step) && !source.bounded(),
            End::Inner | End::Sink(_) => false,
        })
    }

    /// Declares what a step keeps; a type that could not be read back is refused.
    pub(crate) fn declare_state(&self, step: &Arc<Step>, suffix: &'static str, state: Result<StateType>) {
        match state {
            Ok(state) => {
                self.part(Part::State { step: step.clone(), suffix, state: state.clone() });
                self.declare(step, suffix, Some(state), End::Inner);
            }
            Err(error) => self.refuse_step(step, error),
        }
    }

    /// A stream that comes out of a step. A stream of `()` stands for no output.
    pub(crate) fn stream<T: 'static>(&self, step: &Arc<Step>, outlet: &Outlet<T>) {
        let mut streams = self.streams.borrow_mut();
        outlet.set_number(streams.len());
        let (outlet, is_output) = (outlet.clone(), TypeId::of::<T>() != TypeId::of::<()>());
        let is_used: IsUsed = Box::new(move || outlet.is_attached());
        streams.push((step.clone(), is_output.then_some(is_used)));
    }

    /// Puts a receiver behind a stream.
    pub(crate) fn attach<T: 'static>(&self, outlet: &Outlet<T>, receiver: impl Receiver<T> + 'static) {
        self.reads(outlet);
        outlet.attach(receiver);
    }

    /// Notes which stream the part that is being described reads: a step may have several outputs.
    fn reads<T: 'static>(&self, outlet: &Outlet<T>) {
        let Some(number) = outlet.number() else { return };
        let streams = self.streams.borrow();
        let step = streams[number].0.clone();
        let output = streams[..=number].iter().filter(|(of, _)| Arc::ptr_eq(of, &step)).count();
        self.part(Part::Reads { step, output });
    }

    /// Adds an operator of the engine without inputs yet.
    pub(crate) fn chain(&self, name: &str, reads_source: bool) -> Rc<OperatorChain> {
        let chain = self.graph.borrow_mut().chain(name, &self.worker, reads_source);
        self.part(Part::OperatorChain { id: chain.id, name: name.to_owned() });
        chain
    }

    /// Adds an edge between workers, in front of a step; a type of records that cannot be sent to another worker is
    /// refused.
    pub(crate) fn exchange<T: Data>(
        &self,
        step: &Arc<Step>,
        from: (&OperatorChain, &Outlet<T>),
        to: (&OperatorChain, Outlet<T>),
        route: Route<T>,
    ) {
        self.reads(from.1);
        match record_type::<T>() {
            Ok(StateType { name, fingerprint }) => {
                let (from, to, route) = (from.0.id, to.0.id, route.to_string());
                self.part(Part::Edge { from, to, route, record: format!("{name} ({fingerprint})") });
            }
            Err(error) => return self.refuse_step(step, error),
        }
        self.graph.borrow_mut().exchange(step, from, to, route);
    }

    /// Adds an edge that stays on the worker.
    pub(crate) fn local<T: Send + 'static>(
        &self,
        from: (&OperatorChain, &Outlet<T>),
        to: (&OperatorChain, Outlet<T>),
    ) {
        self.reads(from.1);
        let (route, record) = (Route::<T>::Local.to_string(), readable(std::any::type_name::<T>()));
        self.part(Part::Edge { from: from.0.id, to: to.0.id, route, record });
        self.graph.borrow_mut().local(from, to);
    }

    /// Notes what is wrong with the description; it is reported when the description is complete.
    pub(crate) fn refuse(&self, error: Error) {
        self.errors.borrow_mut().push((None, error));
    }

    /// The same, with a step, which may still be given another name.
    pub(crate) fn refuse_step(&self, step: &Arc<Step>, error: Error) {
        self.errors.borrow_mut().push((Some(step.clone()), error));
    }

    pub(crate) fn error_route(&self, chain: &OperatorChain, step: &Arc<Step>) -> Rc<ErrorRoute> {
        self.error_route_behind(chain, step, None)
    }

    /// The same for a step whose malformed records go where those of its source go, unless its author says otherwise.
    pub(crate) fn error_route_as_source(&self, chain: &OperatorChain, step: &Arc<Step>) -> Rc<ErrorRoute> {
        let source = self.routes.borrow().iter().find(|route| route.is_of_source_of(chain)).cloned();
        self.error_route_behind(chain, step, source)
    }

    fn error_route_behind(
        &self,
        chain: &OperatorChain,
        step: &Arc<Step>,
        source: Option<Rc<ErrorRoute>>,
    ) -> Rc<ErrorRoute> {
        let route = Rc::new(ErrorRoute::new(chain, step, source));
        self.routes.borrow_mut().push(route.clone());
        route
    }

    /// Adds a sink behind an outlet.
    pub(crate) fn sink<T: 'static>(
        &self,
        step: &Arc<Step>,
        (chain, outlet): (&Rc<OperatorChain>, &Outlet<T>),
        sink: impl TransactionalSink<T>,
    ) {
        let sink = Arc::new(sink);
        let published = Arc::new(TypedSink(sink.clone(), std::marker::PhantomData));
        self.declare(step, "", None, End::Sink(published));
        let sink = Rc::new(RefCell::new(SinkStep::new(sink, step, chain.clone())));
        chain.add(sink.clone());
        self.attach(outlet, sink);
    }
}
