//! The threads of a job process: each builds the job for itself, wires it and runs it to its end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tidegate_protocol::Slot;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{ProcessBuilder, Thread};
use timely::communication::{Allocator, AllocatorBuilder, Hooks};
use timely::dataflow::ProbeHandle;
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

use super::graph::Graph;
use super::lost_peers::error_of;
use super::operator_chain::OperatorChain;
use super::peers::PeerThreads;
use super::sockets::{Socket, Sockets};
use super::timestamp::Timestamp;
use crate::dataflow::process::Process;
use crate::dataflow::worker_context::WorkerContext;
use crate::link::Report;
use crate::state::engine::set_threads;
use crate::step::{Step, StepKind};
use tidegate_protocol::{Error, Result};

/// Builds the graph of a worker; it is the same on every worker.
pub(crate) type BuildGraph = Arc<dyn Fn(&Rc<WorkerContext>) -> Result<Graph> + Send + Sync>;

/// The running worker threads; dropping it waits for them.
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// The channels between the workers; they are dropped after the threads have ended.
    communication: Option<Box<dyn Any + Send>>,
    /// The connections for what is told beside the dataflow.
    _peers: PeerThreads,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic of a worker was caught in it and reported by its process.
            let _ = thread.join();
        }
        // So was the end of a connection, whose threads end in a panic then.
        let communication = self.communication.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(communication)));
    }
}

/// Starts the workers of a process, connected to those of the other processes of the attempt.
pub(crate) fn start(process: &Arc<Process>, sockets: Sockets, build: BuildGraph) -> Result<Workers> {
    let not_started = |e: String| Error::internal(format!("the worker threads did not start: {e}"));
    if !process.setup.store_ids.is_empty() {
        set_threads(process.workers.count)?;
    }
    let Sockets { data, peers } = sockets;
    let (builders, communication) = allocators(process, data).map_err(not_started)?;
    let peers = PeerThreads::start(process, peers)?;
    let mut workers = Workers { threads: Vec::new(), communication: Some(communication), _peers: peers };
    // Not by `timely::execute`, which gives the threads names of its own.
    for (slot, builder) in process.workers.slots().zip(builders) {
        let (process, build) = (process.clone(), build.clone());
        let work = move || {
            let mut worker = Worker::new(WorkerConfig::default(), allocator(builder), Some(Instant::now()));
            debug_assert_eq!(worker.index(), slot.0 as usize, "allocators come in the order of the workers");
            work(&mut worker, slot, &process, &build);
        };
        let thread = std::thread::Builder::new().name(format!("worker-{slot}")).spawn(work);
        workers
            .threads
            .push(thread.map_err(|e| Error::environment(format!("a worker thread cannot be started: {e}")))?);
    }
    Ok(workers)
}

/// The builders of the allocators of all workers, and what has to live as long as they do.
type Allocators = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

fn allocators(process: &Process, sockets: Vec<Option<Socket>>) -> Result<Allocators, String> {
    let (threads, over_the_wire) = (process.workers.count, process.setup.settings.over_the_wire);
    if sockets.len() > 1 {
        let hooks = Hooks::default();
        let inner = if over_the_wire {
            ProcessBuilder::new_bytes_vector(threads, hooks.refill.clone(), hooks.spill.clone())
        } else {
            ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone())
        };
        let me = process.workers.process_of(process.workers.first.0 as usize);
        let connected = initialize_networking_from_sockets(inner, sockets, me, threads, hooks);
        let (builders, guard) = connected.map_err(|e| e.to_string())?;
        return Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)));
    }
    match threads {
        // Also with one worker: what it sends to itself travels as bytes, too.
        _ if over_the_wire => CommunicationConfig::ProcessBinary(threads),
        1 => CommunicationConfig::Thread,
        _ => CommunicationConfig::Process(threads),
    }
    .try_build()
}

/// The allocator of a worker's channels, made on the worker's thread.
fn allocator(builder: AllocatorBuilder) -> Allocator {
    match builder {
        AllocatorBuilder::Thread(_) => Allocator::Thread(Thread::default()),
        AllocatorBuilder::Process(process) => Allocator::Process(process.build()),
        AllocatorBuilder::Tcp(tcp) => Allocator::Tcp(tcp.build()),
    }
}

/// The main function of a worker's thread.
fn work(worker: &mut Worker, slot: Slot, process: &Arc<Process>, build: &BuildGraph) {
    let ended = catch_unwind(AssertUnwindSafe(|| run(worker, slot, process, build)));
    // A panic here was not in user code that processes a record: such a panic is caught in the operator chain.
    if let Err(error) = ended.unwrap_or_else(|panic| Err(error_of(&*panic, Error::job))) {
        process.driver.fail(error);
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
    process.driver.report(Report::Done(slot));
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
}

/// The operator chains of a worker, which are closed with it.
struct Chains(Vec<Rc<OperatorChain>>);

impl Drop for Chains {
    fn drop(&mut self) {
        self.0.iter().for_each(|chain| chain.close());
    }
}

/// Runs one worker: builds its dataflow and executes it until it has ended.
fn run(worker: &mut Worker, slot: Slot, process: &Arc<Process>, build: &BuildGraph) -> Result<()> {
    let cx = Rc::new(WorkerContext::new(slot, process.clone()));
    let activity = process.activities.activity(slot);
    activity.enter_apart(activity.add_step(&Step::new(StepKind::Build, "build"), false));
    let graph = build(&cx)?;
    activity.leave();
    let chains = Chains(graph.chains().cloned().collect());
    cx.open(chains.0.len())?;
    chains.0.iter().try_for_each(|chain| chain.open())?;
    let probe = ProbeHandle::new();
    worker.dataflow::<Timestamp, _, _>(|scope| graph.wire(scope, &probe));
    if process.readiness.part_is_ready(slot) {
        process.driver.report(Report::Ready(slot));
    }
    while !probe.done() && !process.driver.is_aborted() {
        worker.step_or_park(None);
    }
    Ok(())
}
