//! The real taskmanager, as a process of its own, with a jobmanager of the test and scripts as jobs.

mod jobmanager;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tidegate_access::Secret;
use tidegate_protocol::link::{self, ToProcess};
use tidegate_protocol::process::{FromJobProcess, Preparation, ToJobProcess};
use tidegate_protocol::taskmanager::{FromTaskManager, ProcessId, Program, ToTaskManager};
use tidegate_protocol::{Attempt, Epoch, JobId, KeyGroups, Slot};
use tidegate_taskmanager::{Settings, run};

use jobmanager::{Jobmanager, Manner, Received, ends_within, signal};

const LEASE: Duration = Duration::from_secs(1);
/// How long a test waits for something that should happen soon.
const PATIENCE: Duration = Duration::from_secs(20);
const JOB: JobId = JobId([0xab; 16]);
/// The addresses of jobmanagers and the data directory, for the process that is the taskmanager.
const VARIABLE: &str = "TIDEGATE_TEST_TASKMANAGER";

/// What a job's program does, by its first argument.
const SCRIPT: &str = r#"#!/bin/bash
say() { echo "$1" >&$TIDEGATE_TASKMANAGER_SOCKET; }
case "$1" in
    fail) echo "to stdout"; echo "  last words " >&2; echo >&2; exit 3 ;;
    mute) exec sleep 1000 ;;
    nonsense) say 'what?'; exec sleep 1000 ;;
    plan) ;;
    spam) for i in $(seq 1 3000); do echo "line $i"; done ;;
esac
while read -r -u "$TIDEGATE_TASKMANAGER_SOCKET" line; do
    case "$line" in
        '"ping"') say '"pong"' ;;
        *prepare*) echo "$PWD $line"; say '{"listening":{"port":7}}' ;;
        *trigger*) say '{"report":{"attempt":1,"report":{"ready":0}}}' ;;
        *publish*) [ "$1" = orphans ] && sleep 1000 & say "{\"note\":{\"warning\":true,\"text\":\"$!\"}}" ;;
        *stop_reading*) echo "stopped" >&2; exit 4 ;;
    esac
done
"#;

fn secret() -> Secret {
    Secret::of(b"the secret of the cluster").unwrap()
}

/// Not a test: the taskmanager, in a process that a test has started.
#[test]
fn taskmanager_process() {
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let (jobmanagers, data) = text.split_once(' ').unwrap();
    let jobmanagers = jobmanagers.split(',').map(str::to_owned).collect();
    let settings = Settings::new(jobmanagers, 4, PathBuf::from(data), secret());
    run(Settings { lease: LEASE, log_bytes: 10_000, ..settings }).unwrap();
}

/// A taskmanager and its jobmanager.
struct Cluster {
    jobmanager: Option<Jobmanager>,
    taskmanager: Child,
    directory: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let cluster = Self::with(Jobmanager::new(&secret(), Manner::Honest));
        let registration = cluster.jobmanager().registration();
        assert!(registration.id.0.starts_with("tm-"));
        assert_eq!((registration.slots, registration.processes.len()), (4, 0));
        cluster
    }

    fn with(jobmanager: Jobmanager) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        fs::write(script, SCRIPT).unwrap();
        // Nobody listens at port 1.
        let jobmanagers = format!("127.0.0.1:1,{}", jobmanager.address);
        let taskmanager = Self::taskmanager(&jobmanagers, &directory.path().join("data")).spawn().unwrap();
        Self { jobmanager: Some(jobmanager), taskmanager, directory }
    }

    fn taskmanager(jobmanagers: &str, data: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "taskmanager_process", "--nocapture"]);
        command.env(VARIABLE, format!("{jobmanagers} {}", data.display())).stdout(Stdio::null());
        command
    }

    fn jobmanager(&self) -> &Jobmanager {
        self.jobmanager.as_ref().unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn program(&self, argument: &str) -> Program {
        let sha256 = Sha256::digest(SCRIPT).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.path("script").to_str().unwrap().to_owned();
        let (name, arguments) = ("script".to_owned(), vec![argument.to_owned()]);
        Program { name, sha256, path, arguments, directory: None }
    }

    fn launch(&self, id: ProcessId, program: Program) {
        let preparation = Box::new(Preparation {
            job: id.job,
            attempt: id.attempt,
            parallelism: 1,
            first: id.first,
            workers: 1,
            key_groups: KeyGroups::default(),
            memory: None,
            store: "/store".to_owned(),
            working: PathBuf::new(),
            copies: PathBuf::new(),
            restored: None,
            published: Epoch(0),
            first_epoch: Epoch(1),
            store_ids: BTreeMap::new(),
            drains: false,
            secret: "the secret of the attempt".to_owned(),
            listen: String::new(),
            tls: None,
            silence_ms: 0,
        });
        self.jobmanager().send(ToTaskManager::Launch { program, preparation });
    }

    /// Starts a process; returns its number.
    fn started(&self, id: ProcessId, argument: &str) -> u32 {
        self.launch(id, self.program(argument));
        self.jobmanager().wait(|message| match message {
            FromTaskManager::Started { process, pid } if process == id => Some(pid),
            _ => None,
        })
    }

    fn command(&self, process: ProcessId, command: link::Command) {
        let message = Box::new(ToJobProcess::Command(ToProcess { attempt: process.attempt, command }));
        self.jobmanager().send(ToTaskManager::ToProcess { process, message });
    }

    fn message(&self) -> FromJobProcess {
        self.jobmanager().wait(|message| match message {
            FromTaskManager::FromProcess { message, .. } => Some(*message),
            _ => None,
        })
    }

    fn exited(&self, id: ProcessId) -> String {
        self.jobmanager().wait(|message| match message {
            FromTaskManager::Exited { process, how } => {
                assert_eq!(process, id);
                Some(how.text)
            }
            _ => None,
        })
    }

    fn logs(&self, from: Option<u64>, bytes: u64) -> (String, u64) {
        self.jobmanager().send(ToTaskManager::Logs { request: 5, job: JOB, attempt: None, from, bytes });
        self.jobmanager().wait(|message| match message {
            FromTaskManager::Logs { request: 5, text, position } => Some((text, position)),
            _ => None,
        })
    }

    fn working(&self, id: ProcessId) -> PathBuf {
        self.path(&format!("data/jobs/{JOB}/{}-{}", id.attempt, id.first))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.taskmanager.kill();
        let _ = self.taskmanager.wait();
    }
}

fn id(attempt: u32) -> ProcessId {
    ProcessId { job: JOB, attempt: Attempt(attempt), first: Slot(0) }
}

/// Waits for something that tells nobody when it happens.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_is_started_told_and_killed() {
    let cluster = Cluster::start();
    let pid = cluster.started(id(1), "run");
    assert!(matches!(cluster.message(), FromJobProcess::Listening { port: 7 }));
    let working = cluster.working(id(1));
    assert!(working.is_dir());
    cluster.command(id(1), link::Command::Publish(Epoch(3)));
    assert!(matches!(cluster.message(), FromJobProcess::Note { .. }));
    let mut text = String::new();
    until("its output is in the log", || {
        text = cluster.logs(None, 10_000).0;
        !text.is_empty()
    });
    let line = text.strip_prefix(&format!("{} ", working.canonicalize().unwrap().display())).unwrap();
    let ToJobProcess::Prepare(preparation) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
    assert_eq!(
        (preparation.working, &*preparation.listen, preparation.silence_ms),
        (working.canonicalize().unwrap(), "127.0.0.1", 1000)
    );
    cluster.jobmanager().send(ToTaskManager::Kill { job: JOB, attempt: Attempt(1) });
    assert_eq!(cluster.exited(id(1)), "was killed by signal 9 (SIGKILL)");
    assert!(ends_within(pid, Duration::ZERO));
    until("its working directory is removed", || !working.exists());
}

#[test]
fn the_end_of_a_process_is_noticed_and_explained() {
    let cluster = Cluster::start();
    cluster.launch(id(1), cluster.program("fail"));
    assert_eq!(cluster.exited(id(1)), "ended with exit code 3: last words");
    let (text, _) = cluster.logs(None, 10_000);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["", "  last words ", "to stdout"]);

    let pid = cluster.started(id(2), "run");
    let killed = Instant::now();
    signal(pid, libc::SIGKILL);
    assert_eq!(cluster.exited(id(2)), "was killed by signal 9 (SIGKILL)");
    assert!(killed.elapsed() < LEASE, "without waiting for its lease");

    cluster.launch(id(3), cluster.program("nonsense"));
    let how = cluster.exited(id(3));
    assert!(how.starts_with("has sent something that is no message") && how.ends_with("was killed"), "{how}");

    let wrong = Program { sha256: "ab".repeat(32), ..cluster.program("run") };
    cluster.launch(id(4), wrong);
    let how = cluster.exited(id(4));
    assert!(
        how.starts_with("was not started: fetch the executable /") && how.contains("its SHA-256 is"),
        "{how}"
    );
}

#[test]
fn a_newer_attempt_takes_the_place_of_an_older_one() {
    let cluster = Cluster::start();
    let pid = cluster.started(id(1), "run");
    cluster.launch(id(2), cluster.program("run"));
    assert_eq!(cluster.exited(id(1)), "was killed by signal 9 (SIGKILL)");
    cluster.jobmanager().wait(|message| match message {
        FromTaskManager::Started { process, .. } => (process == id(2)).then_some(()),
        _ => None,
    });
    assert!(ends_within(pid, Duration::ZERO));
}

#[test]
fn what_a_process_leaves_behind_in_its_group_is_killed() {
    let cluster = Cluster::start();
    let pid = cluster.started(id(1), "orphans");
    cluster.command(id(1), link::Command::Publish(Epoch(3)));
    let orphan = cluster.jobmanager().wait(|message| match message {
        FromTaskManager::FromProcess { message, .. } => match *message {
            FromJobProcess::Note { text, .. } => text.parse::<u32>().ok(),
            _ => None,
        },
        _ => None,
    });
    assert!(!ends_within(orphan, Duration::ZERO));
    signal(pid, libc::SIGKILL);
    cluster.exited(id(1));
    assert!(ends_within(orphan, Duration::from_secs(1)));
}

#[test]
fn output_is_rotated_and_followed() {
    let cluster = Cluster::start();
    cluster.started(id(1), "spam");
    assert!(matches!(cluster.message(), FromJobProcess::Listening { .. }), "it has printed everything");
    let (text, mut position) = (1..=3000).fold((String::new(), 0), |(mut text, position), i| {
        let line = format!("line {i}\n");
        text.push_str(&line);
        (text, position + line.len() as u64)
    });
    // The last line is from its first message.
    until("all lines are in the log", || {
        let (last, end) = cluster.logs(None, 10_000);
        position = end;
        last.lines().last().is_some_and(|line| line.contains("prepare"))
    });
    let (last, _) = cluster.logs(None, 2_000);
    let end = last.lines().rfind(|line| line.starts_with("line ")).unwrap();
    assert_eq!(end, "line 3000");
    assert!(text.contains(&last[..last.find(end).unwrap()]), "{last}");
    let files = fs::read_dir(cluster.path(&format!("data/logs/{JOB}"))).unwrap();
    assert_eq!(files.count(), 3);
    cluster.command(id(1), link::Command::StopReading);
    assert_eq!(cluster.exited(id(1)), "ended with exit code 4: stopped");
    assert_eq!(cluster.logs(Some(position), 2_000), ("stopped\n".to_owned(), position + 8));
}

#[test]
fn a_process_that_is_stopped_is_killed() {
    let cluster = Cluster::start();
    let pid = cluster.started(id(1), "run");
    assert!(matches!(cluster.message(), FromJobProcess::Listening { .. }));
    signal(pid, libc::SIGSTOP);
    assert_eq!(cluster.exited(id(1)), "has not answered for 2 s and was killed");
    assert!(ends_within(pid, Duration::ZERO));
}

#[test]
fn a_process_does_not_outlive_its_taskmanager() {
    let mut cluster = Cluster::start();
    let pid = cluster.started(id(1), "mute");
    assert!(!ends_within(pid, Duration::ZERO));
    cluster.taskmanager.kill().unwrap();
    assert!(ends_within(pid, Duration::from_secs(1)));

    // Another one takes its directory and its name.
    let address = cluster.jobmanager().address;
    cluster.taskmanager.wait().unwrap();
    let mut again = Cluster::taskmanager(&address.to_string(), &cluster.path("data"));
    cluster.taskmanager = again.spawn().unwrap();
    assert_eq!(cluster.jobmanager().registration().processes, []);
    assert!(!cluster.working(id(1)).exists());
    let third = again.stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8_lossy(&third.stderr).into_owned();
    let expected = format!("another taskmanager (process {})", cluster.taskmanager.id());
    assert!(!third.status.success() && error.contains(&expected), "{error}");

    let pid = cluster.started(id(2), "run");
    signal(cluster.taskmanager.id(), libc::SIGTERM);
    assert_eq!(cluster.exited(id(2)), "was killed by signal 9 (SIGKILL)");
    assert!(cluster.taskmanager.wait().unwrap().success());
    assert!(ends_within(pid, Duration::ZERO));
}

#[test]
fn a_jobmanager_that_was_away_is_told_what_has_happened() {
    let mut cluster = Cluster::start();
    let pid = cluster.started(id(1), "run");
    let other = ProcessId { first: Slot(1), ..id(1) };
    let other_pid = cluster.started(other, "run");
    cluster.command(id(1), link::Command::Trigger { epoch: Epoch(5), last: false });
    cluster.jobmanager().wait(|message| match message {
        FromTaskManager::FromProcess { message, .. } => {
            matches!(*message, FromJobProcess::Report(_)).then_some(())
        }
        _ => None,
    });
    let address = cluster.jobmanager().address;
    cluster.jobmanager = None;
    signal(other_pid, libc::SIGKILL);
    assert!(ends_within(other_pid, PATIENCE));

    cluster.jobmanager = Some(Jobmanager::start(address, &secret(), Manner::Honest));
    let registration = cluster.jobmanager().registration();
    let found = registration.processes.iter().find(|running| running.process == id(1)).unwrap();
    assert_eq!((found.pid, found.workers, found.triggered), (pid, 1, Epoch(5)));
    assert_eq!((&*found.ready, &*found.ended), (&[Slot(0)][..], &[][..]));
    assert!(matches!(cluster.message(), FromJobProcess::Listening { port: 7 }), "said again");
    assert_eq!(cluster.exited(other), "was killed by signal 9 (SIGKILL)");
}

#[test]
fn a_jobmanager_without_the_secret_is_told_nothing() {
    let cluster = Cluster::with(Jobmanager::new(&secret(), Manner::Lies));
    for _ in 0..2 {
        assert!(matches!(cluster.jobmanager().next(), Received::Upgrade));
    }
}

#[test]
fn a_silent_jobmanager_is_connected_to_again() {
    let cluster = Cluster::with(Jobmanager::new(&secret(), Manner::Silent));
    cluster.jobmanager().registration();
    let registered = Instant::now();
    cluster.jobmanager().registration();
    assert!(registered.elapsed() > LEASE / 2);
}

#[test]
fn a_job_is_described() {
    let cluster = Cluster::start();
    let describe = |program| {
        cluster.jobmanager().send(ToTaskManager::Describe { request: 9, program });
        cluster.jobmanager().wait(|message| match message {
            FromTaskManager::Described { request: 9, result } => Some(result),
            _ => None,
        })
    };
    let error = describe(cluster.program("fail")).unwrap_err();
    assert_eq!(error.to_string(), "script was run with --plan, and ended with exit code 3: last words");
    let error = describe(cluster.program("plan")).unwrap_err().to_string();
    assert!(
        error.starts_with("script is not a Tidegate job: run with --plan, it printed no plan"),
        "{error}"
    );
}
