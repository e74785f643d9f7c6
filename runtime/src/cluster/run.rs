//! A process of an attempt from its first message to its end.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tidegate_access::Secret;
use tidegate_connector_api::Owner;
use tidegate_object_store::{S3Settings, Stores};
use tidegate_protocol::process::{Begin, FromJobProcess, Preparation, ToJobProcess};
use tidegate_protocol::why::ProcessAnswer;
use tidegate_protocol::{ErrorContext, ErrorKind, Manifest, Result, Slot};
use tidegate_snapshots::Snapshots;
use tidegate_transport::Tls;
use tracing::Level;

use super::connect::Attendance;
use super::taskmanager::TaskManager;
use crate::allocator::give_back_freed_memory;
use crate::api::job::{BuildJob, graph_builder};
use crate::attempt::{AttemptSetup, JobSettings, ProcessWorkers};
use crate::checkpoint::recovery::Targets;
use crate::checkpoint::staged_files::StagedFiles;
use crate::dataflow::lost_peers::{self, LostPeer};
use crate::dataflow::process::Process;
use crate::dataflow::sockets::Sockets;
use crate::job_process::description::Description;
use crate::job_process::running::RunningProcess;
use crate::job_process::watchdog;
use crate::link::{Command, Connection, Report, ToDriver, ToProcess};
use crate::local::Run;
use crate::panics::catch;
use crate::working_directory::WorkingDirectory;

/// How long all threads of an attempt may take to come to their end.
const LEAVE: Duration = Duration::from_secs(3);
/// For how long a target of a sink may still be held by another job, which has just ended.
const HELD: Duration = Duration::from_secs(5);
/// How long to wait before such a target is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Writes a line to the log of the process.
pub(crate) type Log = fn(Level, &str);

/// Runs a process of a job until the attempt is over. The process is to end when this returns.
///
/// # Errors
/// Whatever has ended the attempt; it has been reported.
pub(crate) fn run(run: &Run, build: BuildJob, taskmanager: &TaskManager, log: Log) -> Result<()> {
    give_back_freed_memory();
    let messages = taskmanager.receive()?;
    let Some(preparation) = wait(&messages, |message| match message {
        ToJobProcess::Prepare(preparation) => Some(preparation),
        _ => None,
    }) else {
        return Ok(());
    };
    let attempt = preparation.attempt;
    let this = JobProcess { run, build, taskmanager, log, messages, preparation };
    let ended = catch(|| this.go_on());
    if let Err(error) = &ended {
        let report = Report::Failed(error.clone());
        taskmanager.send(&FromJobProcess::Report(ToDriver { attempt, report }));
    }
    ended
}

/// Waits for a message; None if the attempt is over before.
fn wait<M>(
    messages: &Receiver<ToJobProcess>,
    mut wanted: impl FnMut(ToJobProcess) -> Option<M>,
) -> Option<M> {
    loop {
        match messages.recv().ok()? {
            ToJobProcess::Command(ToProcess { command: Command::Abort, .. }) => return None,
            message => {
                if let Some(found) = wanted(message) {
                    return Some(found);
                }
            }
        }
    }
}

/// A process that knows which workers it has.
struct JobProcess<'a> {
    run: &'a Run,
    build: BuildJob,
    taskmanager: &'a TaskManager,
    log: Log,
    messages: Receiver<ToJobProcess>,
    preparation: Box<Preparation>,
}

impl JobProcess<'_> {
    fn go_on(&self) -> Result<()> {
        let snapshots = self.snapshots()?;
        let Some(restored) = self.restored(&snapshots)? else { return self.wait_for_end() };
        let setup = self.setup(snapshots, restored)?;
        let mut job = self.describe(&setup)?;
        let listener = self.listen()?;
        // The targets are held until the attempt is over.
        let _targets = if self.is_first() { Some(self.prepare(&mut job, &setup)?) } else { None };
        let begin = wait(&self.messages, |message| match message {
            ToJobProcess::Begin(begin) => Some(begin),
            _ => None,
        });
        let Some(begin) = begin else { return Ok(()) };
        let sockets = self.connect(listener, &begin)?;
        self.run(setup, &job, *begin, sockets)
    }

    fn is_first(&self) -> bool {
        self.preparation.first == Slot(0)
    }

    fn workers(&self) -> ProcessWorkers {
        ProcessWorkers { first: self.preparation.first, count: self.preparation.workers as usize }
    }

    /// The snapshots of the job. A bucket is reached as the environment of the process says.
    fn snapshots(&self) -> Result<Snapshots> {
        let Preparation { store, copies, .. } = &*self.preparation;
        let copies = Some(copies.as_path()).filter(|path| !path.as_os_str().is_empty());
        Ok(Snapshots::new(Stores::new(S3Settings::of_environment()).of_job(store, copies)?))
    }

    /// The snapshot that is restored, if any. The outer None says that it is damaged, which has been reported.
    fn restored(&self, snapshots: &Snapshots) -> Result<Option<Option<Arc<Manifest>>>> {
        let Some(epoch) = self.preparation.restored else { return Ok(Some(None)) };
        let checked = match snapshots.manifest(epoch)? {
            Ok(manifest) => {
                snapshots.keep_copies_of(&manifest);
                self.check(snapshots, &manifest)?.map(|()| manifest)
            }
            Err(why) => Err(why),
        };
        match checked {
            Ok(manifest) => Ok(Some(Some(Arc::new(manifest)))),
            Err(why) => {
                self.taskmanager.send(&FromJobProcess::Damaged { epoch, why });
                Ok(None)
            }
        }
    }

    /// Checks the files that this process is about to use; the inner error says which one is damaged.
    fn check(&self, snapshots: &Snapshots, manifest: &Manifest) -> Result<Result<(), String>> {
        let read = self.preparation.restores_from(manifest);
        match snapshots.check_state_files(manifest, |slot| read.contains(&slot))? {
            Ok(()) if self.is_first() => snapshots.check_staged_files(manifest, self.preparation.published),
            checked => Ok(checked),
        }
    }

    /// The attempt is about to be ended.
    fn wait_for_end(&self) -> Result<()> {
        wait(&self.messages, |_| None::<()>);
        Ok(())
    }

    fn setup(&self, snapshots: Snapshots, restored: Option<Arc<Manifest>>) -> Result<AttemptSetup> {
        let preparation = &self.preparation;
        let memory = preparation.memory.and_then(|bytes| usize::try_from(bytes).ok());
        let working = WorkingDirectory::at(&preparation.working);
        working.clean()?;
        Ok(AttemptSetup {
            job: preparation.job,
            attempt: preparation.attempt,
            settings: JobSettings {
                parallelism: preparation.parallelism as usize,
                key_groups: preparation.key_groups,
                memory: memory.unwrap_or(self.run.memory),
                follow: self.run.follow,
                over_the_wire: self.run.over_the_wire,
            },
            first_epoch: preparation.first_epoch,
            restored,
            snapshots,
            working,
            store_ids: preparation.store_ids.clone(),
        })
    }

    fn describe(&self, setup: &AttemptSetup) -> Result<Description> {
        let job = self.run.describe(&self.build, setup.clone(), self.workers())?;
        if self.is_first() {
            job.warnings.iter().for_each(|warning| self.note(Level::WARN, warning));
        }
        Ok(job)
    }

    fn listen(&self) -> Result<TcpListener> {
        let address = &self.preparation.listen;
        let host: IpAddr =
            address.parse().context(|| format!("the address '{address}' of the taskmanager"))?;
        let listener = TcpListener::bind((host, 0)).context(|| format!("listen at {host}"))?;
        let port = listener.local_addr()?.port();
        self.taskmanager.send(&FromJobProcess::Listening { port });
        Ok(listener)
    }

    /// Publishes what the snapshot holds and the outside has not got, and finds the partitions of the sources.
    fn prepare(&self, job: &mut Description, setup: &AttemptSetup) -> Result<Targets> {
        let files = StagedFiles::new(&setup.snapshots);
        let owner = Owner::Attempt(self.preparation.job, self.preparation.attempt);
        let until = Instant::now() + HELD;
        let mut note = |text: &str| self.note(Level::WARN, text);
        let targets = loop {
            let (restored, published) = (setup.restored.as_ref(), self.preparation.published);
            match Targets::recover(
                (self.preparation.job, owner),
                &job.sinks,
                restored,
                // On a cluster only `-s` leads to a snapshot that is older than the output.
                (published, None),
                &files,
                &mut note,
            ) {
                Err(error) if error.kind() == ErrorKind::Environment && Instant::now() < until => {
                    std::thread::sleep(AGAIN);
                }
                recovered => break recovered?,
            }
        };
        job.list_partitions()?;
        let partitions =
            job.plan.sources.iter().map(|(uid, source)| (uid.clone(), source.partitions.clone()));
        self.taskmanager.send(&FromJobProcess::Prepared { partitions: partitions.collect() });
        Ok(targets)
    }

    fn connect(&self, listener: TcpListener, begin: &Begin) -> Result<Sockets> {
        let Preparation { job, attempt, .. } = *self.preparation;
        let secret = Secret::of(self.preparation.secret.as_bytes())?;
        let me = self.workers().process_of(self.preparation.first.0 as usize) as u32;
        let tls = self.preparation.tls.as_ref().map(Tls::load).transpose()?;
        Attendance { job, attempt, secret, me, tls }.connect(listener, &begin.addresses)
    }

    fn note(&self, level: Level, text: &str) {
        let warning = level == Level::WARN;
        (self.log)(level, text);
        self.taskmanager.send(&FromJobProcess::Note { warning, text: text.to_owned() });
    }

    fn run(
        &self,
        setup: AttemptSetup,
        job: &Description,
        Begin { addresses, assigned }: Begin,
        sockets: Sockets,
    ) -> Result<()> {
        let (done, all_done) = std::sync::mpsc::channel();
        let to_driver = to_driver(self.taskmanager.clone(), done);
        let drains = self.preparation.drains;
        let process = Arc::new(self.run.process(setup, self.workers(), (assigned, drains), to_driver));
        self.report_lost_peers(&process, addresses);
        let build = graph_builder(self.build.clone(), job.outline.clone());
        let mut running = RunningProcess::start(&process, job, sockets, build)?;
        self.serve(&process, &mut running);
        process.driver.abort();
        let until = Instant::now() + LEAVE;
        let left = || until.saturating_duration_since(Instant::now());
        let have_ended = (0..process.workers.count).all(|_| all_done.recv_timeout(left()).is_ok());
        running.close(have_ended, until);
        Ok(())
    }

    /// Reports a broken connection to another process, by which a thread of timely ends in a panic: the attempt cannot go on.
    /// The log has a line about it, and nothing of the panics, which would be taken for a defect.
    fn report_lost_peers(&self, process: &Arc<Process>, addresses: Vec<String>) {
        let usual = std::panic::take_hook();
        let (process, workers, log) = (Arc::downgrade(process), self.preparation.workers as usize, self.log);
        std::panic::set_hook(Box::new(move |panic| {
            let Some(lost) = LostPeer::of(panic) else { return usual(panic) };
            let process = process.upgrade().filter(|process| !process.driver.is_aborted());
            if let (LostPeer::Connection(number, why), Some(process)) = (lost, process) {
                let (first, address) = (number * workers, addresses.get(number).map_or("", String::as_str));
                let text = format!(
                    "the connection to the process of worker {first} at {address} is broken ({why}); this attempt ends"
                );
                log(Level::WARN, &text);
                process.driver.fail(lost_peers::error());
            }
        }));
    }

    /// Passes messages on until the attempt is over.
    fn serve(&self, process: &Process, running: &mut RunningProcess) {
        let mut next_look = Instant::now() + watchdog::EVERY;
        loop {
            match self.messages.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(ToJobProcess::Command(message)) => {
                    if message.attempt == self.preparation.attempt
                        && matches!(message.command, Command::Abort)
                    {
                        return;
                    }
                    if matches!(message.command, Command::StopReading) {
                        running.is_stopping();
                    }
                    process.driver.receive(vec![message]);
                }
                Ok(ToJobProcess::Why { request }) => {
                    let why = Box::new(running.why());
                    self.taskmanager.answer(&ProcessAnswer::Why { request, why });
                }
                Ok(ToJobProcess::Metrics) => {
                    running.show_gauges();
                    let text = self.run.metrics.render(&self.run.job);
                    self.taskmanager.send(&FromJobProcess::Metrics(text));
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + watchdog::EVERY;
                running.look().iter().for_each(|note| self.note(Level::WARN, note));
            }
        }
    }
}

/// Sends reports to the taskmanager, and counts the workers that have ended.
fn to_driver(taskmanager: TaskManager, done: Sender<()>) -> Connection<ToDriver> {
    Box::new(move |message| {
        let is_done = matches!(message.report, Report::Done(_));
        taskmanager.send(&FromJobProcess::Report(message));
        if is_done {
            // Nobody waits for the workers before the attempt is over.
            let _ = done.send(());
        }
    })
}
