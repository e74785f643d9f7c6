//! Chains and edges of one worker, and how they become timely operators.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{ProbeHandle, Scope};

use super::alarm::Alarm;
use super::batch::{Pool, by_target};
use super::operator_chain::OperatorChain;
use super::pace::Pace;
use super::pacing::{Pacing, SourceLoop};
use super::partitioner::{Partitioner, Route, SharedPartitioner};
use super::port::{Input, InputPort, Output, OutputPort, Silent};
use super::running::Running;
use super::timestamp::Timestamp;
use super::wire::Crossing;
use crate::data::Data;
use crate::dataflow::outlet::Outlet;
use crate::dataflow::worker_context::WorkerContext;
use crate::step::Step;
use crate::watermark::Senders;
use tidegate_connector_api::Record;

/// The operator chains and edges that a job's build function has asked for.
#[derive(Default)]
pub(crate) struct Graph {
    chains: Vec<ChainDef>,
    edges: Vec<Box<dyn Edge>>,
}

struct ChainDef {
    chain: Rc<OperatorChain>,
    name: String,
    source: Option<Box<dyn SourceLoop>>,
}

impl Graph {
    /// Adds an operator chain without inputs yet.
    pub(crate) fn chain(
        &mut self,
        name: &str,
        worker: &Rc<WorkerContext>,
        reads_source: bool,
    ) -> Rc<OperatorChain> {
        let chain = Rc::new(OperatorChain::new(self.chains.len(), name, worker.clone(), reads_source));
        self.chains.push(ChainDef { chain: chain.clone(), name: name.to_owned(), source: None });
        chain
    }

    /// Makes an operator chain read a source.
    pub(crate) fn set_source(&mut self, chain: &OperatorChain, source: Box<dyn SourceLoop>) {
        self.chains[chain.id].source = Some(source);
    }

    /// Adds an edge between workers, in front of a step. Batches that arrive are pushed to the outlet of the operator chain
    /// `to`.
    pub(crate) fn exchange<T: Data>(
        &mut self,
        step: &Arc<Step>,
        from: (&OperatorChain, &Outlet<T>),
        to: (&OperatorChain, Outlet<T>),
        route: Route<T>,
    ) {
        let worker = &from.0.worker;
        let (me, workers) = (worker.index(), worker.parallelism());
        let pool = Pool::shared(&worker.process, self.edges.len(), me);
        let crossing = Some(Rc::new(Crossing::of::<T>(step, workers, &worker.process.driver)));
        let partitioner = Partitioner::new(route, me, workers, pool.clone(), crossing.clone());
        let partitioner = Rc::new(RefCell::new(partitioner));
        from.1.attach(SharedPartitioner(partitioner.clone()));
        self.edges.push(Box::new(Exchange(Ends {
            from: from.0.id,
            to: to.0.id,
            partitioner,
            outlet: to.1,
            pool,
            crossing,
        })));
    }

    /// Adds an edge that stays on the worker.
    pub(crate) fn local<T: Send + 'static>(
        &mut self,
        from: (&OperatorChain, &Outlet<T>),
        to: (&OperatorChain, Outlet<T>),
    ) {
        let me = from.0.worker.index();
        let pool = Pool::local();
        let partitioner = Rc::new(RefCell::new(Partitioner::new(Route::Local, me, 1, pool.clone(), None)));
        from.1.attach(SharedPartitioner(partitioner.clone()));
        let (from, to, outlet) = (from.0.id, to.0.id, to.1);
        self.edges.push(Box::new(Local(Ends { from, to, partitioner, outlet, pool, crossing: None })));
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = &Rc<OperatorChain>> {
        self.chains.iter().map(|def| &def.chain)
    }

    pub(crate) fn sources(&self) -> usize {
        self.chains.iter().filter(|def| def.source.is_some()).count()
    }

    /// Builds the timely operators. `probe` follows the progress of all of them.
    pub(crate) fn wire(self, scope: Scope<'_, Timestamp>, probe: &ProbeHandle<Timestamp>) {
        let new = |def: &ChainDef| Wiring {
            builder: OperatorBuilder::new(def.name.clone(), scope),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let mut wirings: Vec<Wiring<'_>> = self.chains.iter().map(new).collect();
        for edge in self.edges {
            edge.wire(&mut wirings);
        }
        for (def, wiring) in self.chains.into_iter().zip(wirings) {
            wiring.build(def, scope, probe);
        }
    }
}

/// An operator chain whose timely operator is being built.
pub(crate) struct Wiring<'scope> {
    builder: OperatorBuilder<'scope, Timestamp>,
    inputs: Vec<Box<dyn InputPort>>,
    outputs: Vec<Box<dyn OutputPort>>,
}

impl<'scope> Wiring<'scope> {
    fn build(mut self, def: ChainDef, scope: Scope<'scope, Timestamp>, probe: &ProbeHandle<Timestamp>) {
        if self.outputs.is_empty() {
            let (_, stream) = self.builder.new_output::<Vec<()>>();
            let _ = stream.probe_with(probe);
            self.outputs.push(Box::new(Silent));
        }
        let address = self.builder.operator_info().address;
        let activator = scope.activator_for(address.clone());
        let (inputs, outputs) = (self.inputs, self.outputs);
        let chain = def.chain;
        let worker = chain.worker.clone();
        let running = move |capabilities| Running {
            chain,
            inputs,
            outputs,
            capabilities,
            alarm: Alarm::new(activator),
            epoch: 0,
            took: Duration::ZERO,
            pace: Pace::default(),
            has_ended: false,
        };
        match def.source {
            Some(source) => {
                worker.process.shared.wakers.add(scope.worker().sync_activator_for(address.to_vec()));
                let probe = probe.clone();
                self.builder.build(move |capabilities| {
                    let mut pacing = Pacing::new(running(capabilities), source, probe);
                    move |_| pacing.schedule()
                });
            }
            None => self.builder.build(move |capabilities| {
                let mut running = running(capabilities);
                move |frontiers| running.schedule(frontiers)
            }),
        }
    }
}

/// An edge between two operator chains. Its implementations know the record type.
trait Edge {
    fn wire(self: Box<Self>, wirings: &mut [Wiring<'_>]);
}

struct Ends<T> {
    from: usize,
    to: usize,
    partitioner: Rc<RefCell<Partitioner<T>>>,
    outlet: Outlet<T>,
    pool: Pool<Record<T>>,
    crossing: Option<Rc<Crossing>>,
}

struct Exchange<T>(Ends<T>);
struct Local<T>(Ends<T>);

macro_rules! wire {
    ($ends:expr, $wirings:expr, $pact:expr, $senders:expr) => {{
        let Ends { from, to, partitioner, outlet, pool, crossing } = $ends;
        let (handle, stream) = $wirings[from].builder.new_output();
        $wirings[from].outputs.push(Box::new(Output { handle: OutputBuilder::from(handle), partitioner }));
        let handle = $wirings[to].builder.new_input(stream, $pact);
        let senders = Senders::new($senders);
        let input = Input::new(handle, outlet, pool, senders, crossing);
        $wirings[to].inputs.push(Box::new(input));
    }};
}

impl<T: Data> Edge for Exchange<T> {
    fn wire(self: Box<Self>, wirings: &mut [Wiring<'_>]) {
        let senders = self.0.partitioner.borrow().receivers();
        wire!(self.0, wirings, by_target(), senders);
    }
}

impl<T: Send + 'static> Edge for Local<T> {
    fn wire(self: Box<Self>, wirings: &mut [Wiring<'_>]) {
        wire!(self.0, wirings, Pipeline, 1);
    }
}
