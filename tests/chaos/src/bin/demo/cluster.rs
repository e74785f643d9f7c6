//! A local cluster for the demo, known by the command line of `tidegate`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use tidegate_chaos::cluster::processes;
use tidegate_chaos::{Context, Failure, Result};

/// A running cluster. Dropping it stops it.
pub(crate) struct Cluster {
    bin: PathBuf,
    data: PathBuf,
    /// Where its jobmanager listens.
    pub(crate) address: String,
}

/// A job, as `tidegate info` shows it.
#[derive(Deserialize)]
pub(crate) struct Info {
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) checkpoint_directory: PathBuf,
    pub(crate) processes: Vec<Process>,
}

/// A process of a job.
#[derive(Deserialize)]
pub(crate) struct Process {
    pub(crate) taskmanager: String,
    pid: Option<u32>,
}

/// What `tidegate cluster up` notes of its processes.
#[derive(Deserialize)]
struct Daemons {
    processes: Vec<DaemonProcess>,
}

#[derive(Deserialize)]
struct DaemonProcess {
    pid: u32,
}

#[derive(Deserialize)]
struct TaskManager {
    id: String,
    pid: u32,
}

impl Cluster {
    /// Starts a jobmanager and two taskmanagers of two slots each.
    pub(crate) fn up(bin: &Path, data: &Path) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = port.context("cannot find a free port")?.port();
        let this = Self { bin: bin.to_owned(), data: data.to_owned(), address: format!("127.0.0.1:{port}") };
        this.up_again()?;
        Ok(this)
    }

    /// Starts what does not run.
    pub(crate) fn up_again(&self) -> Result<()> {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        self.call(&["cluster", "up", "-d", "--port", port, "--data", &self.data.display().to_string()])
            .map(drop)
    }

    /// Submits a job, and returns its id.
    pub(crate) fn submit(
        &self,
        parallelism: usize,
        interval: &str,
        job: &Path,
        arguments: &[&str],
    ) -> Result<String> {
        let (parallelism, interval) = (parallelism.to_string(), format!("checkpoint.interval={interval}"));
        let job = job.display().to_string();
        let run = ["run", "-d", "-p", &parallelism, "-D", &interval, &job, "--"];
        let said = self.call(&[&run[..], arguments].concat())?;
        let id = said.split_whitespace().last().filter(|id| id.len() == 32);
        id.map(str::to_owned).ok_or_else(|| Failure::new(format!("'tidegate run' names no job: {said}")))
    }

    pub(crate) fn info(&self, job: &str) -> Result<Info> {
        let said = self.call(&["info", job, "-o", "json"])?;
        serde_json::from_str(&said).context("cannot read what 'tidegate info' prints")
    }

    /// kill -9 of a taskmanager.
    pub(crate) fn kill(&self, taskmanager: &str) -> Result<()> {
        let said = self.call(&["taskmanagers", "-o", "json"])?;
        let all: Vec<TaskManager> =
            serde_json::from_str(&said).context("cannot read what 'tidegate taskmanagers' prints")?;
        let pid = all.iter().find(|one| one.id == taskmanager).map(|one| one.pid.to_string());
        let pid = pid.ok_or_else(|| Failure::new(format!("there is no taskmanager {taskmanager}")))?;
        let killed = Command::new("kill").args(["-9", &pid]).status().context("cannot start kill")?;
        if killed.success() { Ok(()) } else { Err(Failure::new(format!("cannot kill process {pid}"))) }
    }

    /// kill -9 of everything: jobmanager, taskmanagers, processes of the job. Returns how many there were.
    pub(crate) fn kill_all(&self, info: &Info) -> Result<usize> {
        let noted =
            std::fs::read(self.data.join("pids.json")).context("cannot find the cluster's processes")?;
        let noted: Daemons = serde_json::from_slice(&noted).context("cannot read the cluster's processes")?;
        let mut pids: Vec<u32> = noted.processes.iter().map(|process| process.pid).collect();
        pids.extend(info.processes.iter().filter_map(|process| process.pid));
        pids.retain(|pid| processes::is_alive(*pid));
        pids.iter().for_each(|pid| processes::signal(*pid, libc::SIGKILL));
        Ok(pids.len())
    }

    /// Has the job read to the end of its input, publish what is left, and finish.
    pub(crate) fn drain(&self, job: &str) -> Result<()> {
        self.call(&["stop", "--drain", job]).map(drop)
    }

    fn call(&self, arguments: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = Command::new(&self.bin)
            .args(arguments)
            .env("TIDEGATE_JOBMANAGER", &self.address)
            .env("TIDEGATE_SECRET_FILE", self.data.join("secret"))
            .output()
            .context(format!("cannot start {}", self.bin.display()))?;
        if !status.success() {
            let (what, said) = (arguments.join(" "), String::from_utf8_lossy(&stderr).into_owned());
            return Err(Failure::new(format!("'tidegate {what}' failed: {}", said.trim())));
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failure to stop it is said by the next demo, which finds its port or directory in use.
        let _ = self.call(&["cluster", "down", "--data", &self.data.display().to_string()]);
    }
}
