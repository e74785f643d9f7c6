//! A cluster on this machine, of daemons that are started one by one, and the command line of its users.

use crate::Result;
use crate::child::Watched;
use crate::setting::Setting;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the cluster may take for anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the cluster is asked.
const EVERY: Duration = Duration::from_millis(20);

/// A jobmanager and taskmanagers, which end with the measurement.
pub struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    address: String,
    slots: u32,
    /// The jobmanager.
    pub jobmanager: Watched,
    /// The taskmanagers.
    pub taskmanagers: Vec<Watched>,
}

impl Cluster {
    /// Starts one with so many taskmanagers, each with so many slots, and waits until all are there.
    pub fn start(setting: &Setting, taskmanagers: usize, slots: u32) -> Result<Cluster> {
        let directory = setting.path("cluster");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
        write_secret(&secret(&directory))
            .map_err(|e| format!("cannot write the secret of a cluster: {e}"))?;
        let program = setting.beside("tidegate")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = daemon(&program, &directory, &address, "jobmanager", "jobmanager")?;
        command.args(["--listen", &address]).arg("--checkpoint-store").arg(directory.join("store"));
        let jobmanager = Watched::start(&mut command)?;
        let mut cluster =
            Cluster { program, directory, address, slots, jobmanager, taskmanagers: Vec::new() };
        cluster.until("the jobmanager answers", |cluster| cluster.json(&["taskmanagers"]).is_ok())?;
        for number in 0..taskmanagers {
            let taskmanager = cluster.taskmanager(number)?;
            cluster.taskmanagers.push(taskmanager);
        }
        cluster.all_registered()?;
        Ok(cluster)
    }

    /// Starts a taskmanager again that was killed, and waits until its slots are there.
    pub fn start_again(&mut self, number: usize) -> Result<()> {
        self.taskmanagers[number] = self.taskmanager(number)?;
        self.all_registered()
    }

    /// Waits until all taskmanagers are connected.
    pub fn all_registered(&self) -> Result<()> {
        let wanted = self.taskmanagers.len();
        self.until("all taskmanagers are connected", |cluster| {
            let hosts = cluster.json(&["taskmanagers"]).unwrap_or_default();
            hosts.as_array().into_iter().flatten().filter(|host| host["state"] == "CONNECTED").count()
                >= wanted
        })
    }

    fn taskmanager(&self, number: usize) -> Result<Watched> {
        let data = format!("taskmanager-{number}");
        let mut command = daemon(&self.program, &self.directory, &self.address, "taskmanager", &data)?;
        Watched::start(command.args(["--slots", &self.slots.to_string()]))
    }

    /// Submits a job, and returns its id. `more` are words for `tidegate run`.
    pub fn submit(&self, more: &[&str], executable: &Path, arguments: &[String]) -> Result<String> {
        let mut command = self.command();
        command.args(["run", "--detached"]).args(more).arg(executable).arg("--").args(arguments);
        let said = said(&mut command)?;
        said.split_whitespace().last().map(str::to_owned).ok_or_else(|| "tidegate run says nothing".into())
    }

    /// What `tidegate info` says of a job.
    pub fn info(&self, job: &str) -> Result<Value> {
        self.json(&["info", job])
    }

    /// Waits until a job runs with so many workers.
    pub fn runs(&self, job: &str, workers: u32) -> Result<Value> {
        self.until("the job runs", |cluster| {
            let info = cluster.info(job).unwrap_or_default();
            info["state"] == "RUNNING" && info["parallelism"] == workers
        })?;
        self.info(job)
    }

    /// Waits for the end of a job, which must be a good one.
    pub fn finishes(&self, job: &str, patience: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.info(job)?["state"].as_str() {
                Some("FINISHED") => return Ok(()),
                Some("FAILED" | "CANCELED") => {
                    return Err(format!("the job has failed: {}", self.info(job)?));
                }
                _ if started.elapsed() > patience => return Err("the job does not come to its end".into()),
                _ => std::thread::sleep(EVERY),
            }
        }
    }

    /// A verb with its answer.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let text = said(self.command().args(words).args(["-o", "json"]))?;
        serde_json::from_str(&text).map_err(|e| format!("tidegate {}: {e}", words.join(" ")))
    }

    /// Waits until something is so; each look asks the cluster.
    pub fn until(&self, what: &str, is_so: impl Fn(&Cluster) -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_so(self) {
            if started.elapsed() > PATIENCE {
                return Err(format!("waited {} s in vain until {what}", PATIENCE.as_secs()));
            }
            std::thread::sleep(EVERY);
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--jobmanager", &self.address]).arg("--secret-file").arg(secret(&self.directory));
        command
    }
}

/// The processes of a job by what `tidegate info` says, in the order of their workers.
pub fn processes(info: &Value) -> Vec<u32> {
    let processes = info["processes"].as_array().into_iter().flatten();
    processes.filter_map(|process| u32::try_from(process["pid"].as_u64()?).ok()).collect()
}

/// One that needs to be no secret: the daemons are on the loopback interface, for minutes.
fn write_secret(path: &Path) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(b"the cluster of a measurement")
}

fn secret(directory: &Path) -> PathBuf {
    directory.join("secret")
}

fn daemon(program: &Path, directory: &Path, address: &str, verb: &str, data: &str) -> Result<Command> {
    let path = directory.join(format!("{data}.log"));
    let log = fs::OpenOptions::new().create(true).append(true).open(&path);
    let log = log.map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    let mut command = Command::new(program);
    command.arg(verb).args(["--jobmanager", address]).arg("--data").arg(directory.join(data));
    command.arg("--secret-file").arg(secret(directory));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(command)
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot start tidegate: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("tidegate {}: {}", words.join(" "), why.trim()))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|e| format!("no port is free: {e}"))
}
