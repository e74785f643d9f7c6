//! Daemons in a directory, each with its log in a file.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_access::Secret;

/// How long a test usually waits for something that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// A jobmanager, taskmanagers, and commands that are sent to them.
pub(crate) struct Cluster {
    directory: TempDir,
    pub(crate) jobmanager: u16,
    /// What every process of the cluster is told beside its flags.
    environment: Vec<(&'static str, String)>,
    /// How long this test waits for something that should happen soon.
    pub(crate) patience: Duration,
    daemons: Vec<Child>,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// Without a daemon yet.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (environment, daemons) = (Vec::new(), Vec::new());
        Self { directory, jobmanager: free_port(), environment, patience: PATIENCE, daemons }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sets a variable for everything that is started from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.into()));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(other, _)| *other != name);
    }

    fn start(&mut self, mut command: Command) {
        let log = fs::File::create(self.path(&format!("log-{}", self.daemons.len()))).unwrap();
        self.daemons.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// The log of the daemon that was started so many daemons after the first.
    pub(crate) fn log(&self, daemon: usize) -> String {
        fs::read_to_string(self.path(&format!("log-{daemon}"))).unwrap()
    }

    /// The number in the operating system of the daemon that was started so many daemons after the first.
    pub(crate) fn pid(&self, daemon: usize) -> u64 {
        self.daemons[daemon].id().into()
    }

    /// Waits for the end of the daemon that was started so many daemons after the first.
    pub(crate) fn exit_code(&mut self, daemon: usize) -> Option<i32> {
        self.daemons[daemon].wait().unwrap().code()
    }

    pub(crate) fn start_daemon(&mut self, line: &str) {
        self.start(self.command(line));
    }

    pub(crate) fn start_jobmanager(&mut self, more: &str) {
        let port = self.jobmanager;
        let line = format!("jobmanager --data jm --checkpoint-store store --listen 127.0.0.1:{port} {more}");
        self.start_daemon(&line);
    }

    /// Starts a jobmanager that may have so few files open.
    pub(crate) fn start_jobmanager_with_files(&mut self, files: usize) {
        let tidegate = env!("CARGO_BIN_EXE_tidegate");
        let mut command = Command::new("sh");
        self.prepare(&mut command);
        command.arg("-c").arg(format!(
            "ulimit -n {files} && exec {tidegate} jobmanager --data jm --checkpoint-store store --listen 127.0.0.1:{}",
            self.jobmanager
        ));
        self.start(command);
    }

    pub(crate) fn start_taskmanager(&mut self, name: &str, more: &str) {
        let line = format!("taskmanager --data {name} --slots 1 {more}");
        self.start_daemon(&line);
    }

    /// Waits until so many taskmanagers are connected.
    pub(crate) fn wait_for_taskmanagers(&self, count: usize) {
        self.until("the taskmanagers are connected", |cluster| {
            let connected =
                |all: Value| all.as_array().unwrap().iter().filter(|one| one["state"] == "CONNECTED").count();
            cluster.json("taskmanagers").map(connected) == Some(count)
        });
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_tidegate"), line)
    }

    /// Another program, in the directory of the cluster.
    pub(crate) fn command_of(&self, program: impl AsRef<OsStr>, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split_whitespace());
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(&self.directory).env_clear().stdin(Stdio::null());
        command.env("HOME", self.directory.path()).env("PATH", "/usr/bin:/bin");
        command.env("TIDEGATE_JOBMANAGER", format!("127.0.0.1:{}", self.jobmanager));
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
    }

    /// Submits `sensor-rules` as the job `rules`, over inputs that are empty and followed.
    pub(crate) fn submit_rules(&self, program: &Path, options: &str) {
        for directory in ["in", "rules"] {
            fs::create_dir(self.path(directory)).unwrap();
            fs::write(self.path(directory).join("part-0.jsonl"), "").unwrap();
        }
        let line = format!(
            "run -d {options} --name rules {} -- --follow --input in --rules rules --output out --dead-letters dead",
            program.display()
        );
        self.run(&line).expect("the job is submitted");
    }

    /// Checks that a user with another secret learns that, and nothing of a connection that breaks, however long the
    /// executable is.
    pub(crate) fn refuses_another_secret(&self, executable_bytes: u64) {
        Secret::create(&self.path("another")).unwrap();
        fs::File::create(self.path("job")).unwrap().set_len(executable_bytes).unwrap();
        let error = self.run("run -d job --secret-file another").unwrap_err();
        assert!(
            error.contains("refuses the cluster secret: the request is not signed with the secret"),
            "{error}"
        );
    }

    pub(crate) fn run(&self, line: &str) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        if status.success() {
            Ok(String::from_utf8(stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&stderr).into_owned())
        }
    }

    pub(crate) fn json(&self, line: &str) -> Option<Value> {
        let answer = self.run(&format!("{line} -o json"));
        answer
            .inspect_err(|error| eprintln!("{line}: {error}"))
            .ok()
            .map(|text| serde_json::from_str(&text).unwrap())
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < self.patience, "waited for too long: {what}; {}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        (0..self.daemons.len()).map(|daemon| self.log(daemon)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A program that cargo builds into the same directory as this test's program if the whole workspace is built.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tidegate")).with_file_name(name);
    if !path.exists() {
        eprintln!("{name} is not built: nothing is tested; build the workspace first");
    }
    path.exists().then_some(path)
}

/// The lines of all files of a directory, in their order.
pub(crate) fn lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            lines.extend(BufReader::new(fs::File::open(path).unwrap()).lines().map(Result::unwrap));
        }
    }
    lines.sort_unstable();
    lines
}

pub(crate) fn signal(name: &str, pid: u64) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}
