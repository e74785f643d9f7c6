//! `tidegate cluster up` and `down`, with real daemons.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A directory in which clusters are started; what is left of them is stopped at the end.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(line.split_whitespace()).current_dir(&self.0).env_clear();
        command.env("HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{line} -o json"))).unwrap()
    }

    /// The error of a command that fails.
    fn error(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    /// A cluster in the foreground that is ready.
    fn in_foreground(&self) -> Child {
        let mut command = self.command("cluster up --port 0 --taskmanagers 1");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("The cluster is ready: "), "{line}");
        child
    }

    fn pids(&self) -> Vec<u64> {
        let file = std::fs::read(self.0.path().join("tidegate-cluster/pids.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        file["processes"].as_array().unwrap().iter().map(|process| process["pid"].as_u64().unwrap()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command("cluster down").output();
    }
}

fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

fn signal(name: &str, pid: u64) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for too long: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_detached_cluster_is_used_from_its_directory_until_it_is_stopped() {
    let place = Place::new();
    let began = Instant::now();
    let up = place.json("cluster up -d --port 0 --taskmanagers 2 --slots 3");
    eprintln!("ready after {:?}", began.elapsed());
    assert_eq!(up["pids"].as_array().unwrap().len(), 3);
    assert!(Path::new(up["secret_file"].as_str().unwrap()).is_absolute());
    let taskmanagers = place.json("taskmanagers");
    let slots: Vec<u64> =
        taskmanagers.as_array().unwrap().iter().map(|one| one["slots"].as_u64().unwrap()).collect();
    assert_eq!(slots, [3, 3]);
    let error = place.error("cluster up -d --port 0");
    assert!(
        error.contains("a cluster is running in tidegate-cluster already; to stop it: tidegate cluster down"),
        "{error}"
    );
    let pids = place.pids();
    assert!(pids.iter().all(|pid| runs(*pid)));
    assert_eq!(place.run("cluster down"), "The cluster in tidegate-cluster is stopped; its data is kept.\n");
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert_eq!(place.run("cluster down"), "No cluster was running in tidegate-cluster.\n");
    // The same data again.
    place.run("cluster up -d --port 0 --taskmanagers 2");
}

#[test]
fn what_has_ended_of_a_detached_cluster_is_started_again() {
    let place = Place::new();
    place.run("cluster up -d --port 0 --taskmanagers 1");
    let before = place.pids();
    signal("-KILL", before[0]);
    wait_until("the jobmanager ends", || !runs(before[0]));
    // The usual port is not asked for: the jobmanager has its own again.
    let up = place.json("cluster up");
    let after = place.pids();
    assert_eq!(
        (&up["started"], &up["pids"]),
        (&serde_json::json!(["jobmanager"]), &serde_json::json!([after[0]]))
    );
    assert_eq!((after[1], runs(after[0])), (before[1], true));
    assert_eq!(place.json("taskmanagers")[0]["pid"], before[1]);
    assert!(place.error("cluster up").contains("a cluster is running in tidegate-cluster already"));
    signal("-KILL", after[1]);
    wait_until("the taskmanager ends", || !runs(after[1]));
    assert_eq!(
        place.run("cluster up"),
        "A cluster was running in tidegate-cluster already; started again: taskmanager 1.\n"
    );
    let pids = place.pids();
    place.run("cluster down");
    assert!(!pids.iter().any(|pid| runs(*pid)));
}

#[test]
fn a_cluster_in_the_foreground_ends_with_its_command() {
    let place = Place::new();
    let child = place.in_foreground();
    let pids = place.pids();
    assert_eq!(pids.len(), 3, "the command is one of them");
    signal("-INT", u64::from(child.id()));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*stderr), (Some(0), "The cluster is stopped; its data is kept.\n"));
    assert!(!pids.iter().any(|pid| runs(*pid)));

    let mut child = place.in_foreground();
    let pids = place.pids();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the daemons end with the command", || !pids.iter().any(|pid| runs(*pid)));
}

#[test]
fn a_daemon_that_ends_is_reported() {
    let place = Place::new();
    let mut child = place.in_foreground();
    signal("-KILL", *place.pids().last().unwrap());
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("Error: the taskmanager 1 has ended with signal: 9"), "{line}");
    place.run("cluster down");
    child.wait().unwrap();
}

#[test]
fn a_cluster_that_cannot_start_says_why_and_leaves_nothing() {
    let place = Place::new();
    let data = place.0.path().join("tidegate-cluster");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("checkpoints"), "in the way").unwrap();
    let error = place.error("cluster up --port 0");
    assert!(error.contains("the jobmanager has ended") && error.contains("Error: "), "{error}");
    assert!(!data.join("pids.json").exists());
}
