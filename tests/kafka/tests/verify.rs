//! `tidegate verify exactly-once`, as a user runs it: the programs, on a cluster of their own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::Test;
use crate::setting::Setting;

pub(crate) const TESTS: &[Test] = &[
    ("verify::no_row_is_lost_or_doubled_while_job_processes_are_killed", no_row_is_lost_or_doubled),
    ("verify::a_job_that_writes_twice_is_found_and_its_topics_are_kept", a_job_that_writes_twice_is_found),
    ("verify::an_interrupted_verification_leaves_nothing_behind", an_interrupted_verification),
];

/// A cluster with two taskmanagers of two slots; it is stopped at the end.
struct Cluster {
    directory: TempDir,
    tidegate: PathBuf,
}

impl Cluster {
    fn up() -> Self {
        let cluster = Self { directory: tempfile::tempdir().unwrap(), tidegate: program("tidegate") };
        cluster.run(&["cluster", "up", "--detached", "--port", "0"]);
        cluster
    }

    /// The program with these arguments, in the directory of the cluster.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tidegate);
        command.args(arguments).current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn verify(&self, setting: &Setting, more: &[&str]) -> Command {
        let brokers = format!("bootstrap.servers={}", setting.brokers.bootstrap());
        let arguments = ["verify", "exactly-once", "--kafka", &brokers, "-p", "2", "-o", "json"];
        self.command(&[&arguments, more].concat())
    }

    fn jobs(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.run(&["list", "-a", "-o", "json"])).unwrap();
        list.as_array().unwrap().clone()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.command(&["cluster", "down"]).output());
    }
}

/// A program of the directory in which this test is built, which `make test` has built before.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join(name);
    assert!(program.is_file(), "{} is missing: run  make build", program.display());
    program
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{} {}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether the topics of a report are there.
fn topics_are_there(setting: &Setting, report: &Value) -> [bool; 2] {
    let topic = |index: usize| report["topics"][index].as_str().unwrap().to_owned();
    [topic(0), topic(1)].map(|topic| setting.kafka().partitions(&topic).unwrap().is_some())
}

fn no_row_is_lost_or_doubled(setting: &Setting) {
    let cluster = Cluster::up();
    let faults = ["--fault", "job", "--fault", "test -n \"$TIDEGATE_JOB\"", "--every", "3"];
    let more = ["--seconds", "12", "--rate", "500", "--seed", "7"];
    let output = cluster.verify(setting, &[&faults[..], &more].concat()).output().unwrap();
    eprintln!("{}", text(&output.stdout));
    let report = report(&output, 0);
    assert_eq!((&report["exactly_once"], &report["seed"]), (&true.into(), &7.into()));
    assert_eq!(report["in"], report["out"]);
    assert!(report["in"].as_u64().unwrap() >= 12 * 500, "{report}");
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault["fault"] == "job"), "{report}");
    assert!(faults.iter().any(|fault| fault["outcome"]["exit"] == 0), "{report}");
    assert!(report["restarts"].as_u64().unwrap() > 0, "{report}");
    assert!(report["longest_block"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(topics_are_there(setting, &report), [false; 2]);
    assert_eq!(cluster.jobs()[0]["state"], "FINISHED");
}

/// A fault that is none of the job's: somebody else writes to its second topic what it has written there already.
fn a_job_that_writes_twice_is_found(setting: &Setting) {
    let cluster = Cluster::up();
    let more = ["--seconds", "5", "--rate", "200", "--keep"];
    let output = cluster.verify(setting, &more).output().unwrap();
    let kept = report(&output, 0);
    assert_eq!(topics_are_there(setting, &kept), [true; 2]);

    let mut child = cluster.verify(setting, &["--seconds", "5", "--rate", "200"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let job = wait_for("the second job", || cluster.jobs().into_iter().find(|job| job["state"] == "RUNNING"));
    let info: Value =
        serde_json::from_str(&cluster.run(&["info", job["id"].as_str().unwrap(), "-o", "json"])).unwrap();
    let topic = info["arguments"][3].as_str().unwrap().to_owned();
    let row = wait_for("a row", || setting.client.values(&topic).into_iter().next());
    setting.client.write(&topic, 0, [row, r#"{"key":"key-1","number":1000000,"count":1}"#.to_owned()]);
    let report = report(&child.wait_with_output().unwrap(), 1);
    let rows = |kind: &str| report[kind]["rows"].as_u64().unwrap();
    assert_eq!([rows("lost"), rows("twice"), rows("unknown"), rows("miscounted")], [0, 1, 1, 0], "{report}");
    assert_eq!(topics_are_there(setting, &report), [true; 2]);
}

fn an_interrupted_verification(setting: &Setting) {
    let cluster = Cluster::up();
    let mut child = cluster.verify(setting, &[]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the job", || cluster.jobs().into_iter().find(|job| job["state"] == "RUNNING"));
    let job = &cluster.jobs()[0];
    let info = cluster.run(&["info", job["id"].as_str().unwrap(), "-o", "json"]);
    let info: Value = serde_json::from_str(&info).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(cluster.jobs()[0]["state"], "CANCELED");
    for index in [1, 3] {
        let topic = info["arguments"][index].as_str().unwrap();
        assert_eq!(setting.kafka().partitions(topic).unwrap(), None);
    }
}

fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < until, "waited for too long: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
