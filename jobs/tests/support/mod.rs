//! Starts the jobs' programs on directories of their own, and looks at what they put out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything that is waited for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The directories of one test.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Appends text to a file below this place.
    pub(crate) fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
        let mut file = fs::File::options().create(true).append(true).open(path).expect("the file");
        file.write_all(text.as_bytes()).expect("the text");
    }

    /// All rows of the visible files of a directory.
    pub(crate) fn rows(&self, name: &str) -> Vec<Value> {
        let Ok(files) = fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut paths: Vec<_> = files.map(|f| f.expect("an entry").path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "jsonl") && !is_hidden(p));
        paths.sort();
        let lines = paths.iter().map(|p| fs::read_to_string(p).expect("a visible file"));
        lines.flat_map(|text| text.lines().map(json).collect::<Vec<_>>()).collect()
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in a visible row: {line}"))
}

/// A row of the sensor `device`.
pub(crate) fn reading(device: &str, timestamp: i64, temperature: f64) -> String {
    format!(
        "{{\"device_id\":\"{device}\",\"timestamp\":{timestamp},\"temperature\":{temperature:?},\"vibration\":0.01,\
         \"pressure\":101.0}}\n"
    )
}

/// A running program, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    pub(crate) fn start(place: &Place, program: &str, arguments: &[&str]) -> Self {
        Self::start_with(place, program, arguments, &[])
    }

    /// With variables in its environment.
    pub(crate) fn start_with(
        place: &Place,
        program: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let stderr = place.path("stderr");
        let log = fs::File::options().create(true).append(true).open(&stderr).expect("a log");
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(place.root.path())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Self { child, stderr }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until `there` is true.
    pub(crate) fn until(&mut self, what: &str, mut there: impl FnMut() -> bool) {
        let began = Instant::now();
        while !there() {
            if let Some(status) = self.child.try_wait().expect("its status") {
                panic!("ended ({status}) before {what}:\n{}", self.said());
            }
            assert!(began.elapsed() < PATIENCE, "no {what} in {PATIENCE:?}:\n{}", self.said());
            std::thread::yield_now();
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: a system call without pointers, to a child that was not waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end.
pub(crate) fn run(place: &Place, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(place.root.path()).stdin(Stdio::null());
    command.output().expect("the program starts")
}

/// What a program said to standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
