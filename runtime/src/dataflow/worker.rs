//! The threads of a job process: each builds the job for itself, wires it and runs it to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_protocol::Slot;
use timely::dataflow::ProbeHandle;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;
use timely::{CommunicationConfig, Config, WorkerConfig};

use super::host::Host;
use super::time::Time;
use crate::error::{Error, Result, panic_text};
use crate::link::Report;
use crate::metrics::Step;
use crate::process::Process;
use crate::stream::Job;
use crate::worker::WorkerCx;

/// Wakes workers that have parked themselves.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<Vec<SyncActivator>>);

impl Wakers {
    pub(crate) fn add(&self, activator: SyncActivator) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(activator);
    }

    /// Has every source of this process scheduled once.
    pub(crate) fn wake(&self) {
        for activator in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A worker that is gone needs no waking.
            let _ = activator.activate();
        }
    }
}

impl Wakers {
    /// The same, if there is more than the one that asks.
    pub(crate) fn wake_others(&self) {
        let several = self.0.lock().unwrap_or_else(PoisonError::into_inner).len() > 1;
        if several {
            self.wake();
        }
    }
}

/// Describes a job on one worker.
pub(crate) type BuildJob = Arc<dyn Fn(&mut Job) -> Result<()> + Send + Sync>;

/// The running worker threads; dropping it waits for them.
pub(crate) struct Workers(
    #[expect(dead_code, reason = "its drop joins the threads")] timely::communication::WorkerGuards<()>,
);

/// Starts the workers of a process.
pub(crate) fn start(process: &Arc<Process>, build: BuildJob) -> Result<Workers> {
    let threads = process.settings.workers;
    let communication = match threads {
        // Also with one worker: what it sends to itself travels as bytes, too.
        _ if process.settings.over_the_wire => CommunicationConfig::ProcessBinary(threads),
        1 => CommunicationConfig::Thread,
        _ => CommunicationConfig::Process(threads),
    };
    let config = Config { communication, worker: WorkerConfig::default() };
    let process = process.clone();
    let guards = timely::execute(config, move |worker| {
        let slot = Slot(worker.index() as u32);
        let ended = catch_unwind(AssertUnwindSafe(|| run(worker, slot, &process, &build)));
        // What panics here was not user code at work on a record: that is caught in its host.
        match ended.unwrap_or_else(|panic| Err(Error::job(panic_text(&*panic)))) {
            Ok(()) => {}
            Err(error) => process.fail(error),
        }
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
        process.tell(Report::Done(slot));
    });
    guards.map(Workers).map_err(|e| Error::us(format!("the worker threads did not start: {e}")))
}

/// The hosts of a worker, which are closed with it.
struct Hosts(Vec<Rc<Host>>);

impl Drop for Hosts {
    fn drop(&mut self) {
        self.0.iter().for_each(|host| host.close());
    }
}

/// One worker from its building to its end.
fn run(worker: &mut Worker, slot: Slot, process: &Arc<Process>, build: &BuildJob) -> Result<()> {
    let cx = Rc::new(WorkerCx::new(slot, process.clone()));
    let mut job = Job::new(cx.clone());
    let place = process.watch.place(slot);
    place.enter_apart(place.add_step(&Step::new("build", "build"), false));
    build(&mut job)?;
    place.leave();
    // Before anything is wired: workers that differ would wait for each other, or take records for others than they are.
    process.outline.check(slot, &job.outline())?;
    let graph = job.into_graph()?;
    let hosts = Hosts(graph.hosts().cloned().collect());
    cx.open(hosts.0.len())?;
    hosts.0.iter().try_for_each(|host| host.open())?;
    let probe = ProbeHandle::new();
    worker.dataflow::<Time, _, _>(|scope| graph.wire(scope, &probe));
    process.tell(Report::Ready(slot));
    while !probe.done() && !process.is_aborted() {
        worker.step_or_park(None);
    }
    Ok(())
}
