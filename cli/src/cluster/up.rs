//! `tidegate cluster up`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{PathBuf, absolute};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tidegate_access::Secret;
use tidegate_client::{Client, Connector};
use tidegate_protocol::{Error, ErrorContext, Result};
use tidegate_rest::cluster::Overview;

use super::SECRET;
use super::daemon::{self, Daemon};
use super::pid_file::{PidFile, Process, WATCHER};
use crate::config::{Config, keys};
use crate::options::{Format, GlobalOptions, UpOptions};
use crate::output::{answer, answer_json, quoted, say};
use crate::progress::Progress;
use crate::tls;

/// The time between two questions whether the cluster is ready.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long a request may take, and how long the start of the cluster.
const REQUEST: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a cluster on this machine. In the foreground, it is watched until Ctrl-C. Of one that runs, what has ended is
/// started again.
pub(crate) fn up(options: &UpOptions, global: &GlobalOptions, config: &Config) -> Result<()> {
    let directory = absolute(&options.data).context(|| "--data cannot be used")?;
    let running = PidFile::read(&directory)?.filter(|file| file.alive().next().is_some());
    let jobmanager = match &running {
        Some(file) => file.jobmanager.clone(),
        None => format!("127.0.0.1:{}", free_port(options.port)?),
    };
    let metrics = config.find(&keys::TASKMANAGER_METRICS)?;
    if let Some(first) =
        metrics.as_ref().filter(|first| metrics_address(first, options.taskmanagers).is_none())
    {
        return Err(Error::environment(format!(
            "taskmanager.metrics is {first}, and the other taskmanagers use the ports that follow, which go to 65535: choose a \
             lower port"
        )));
    }
    let plan = Plan {
        options,
        config: global.config.as_deref().map(absolute).transpose().context(|| "--config cannot be used")?,
        tls: tls::connector(config)?,
        tls_ca: config.find(&keys::TLS_CA)?.map(absolute).transpose().context(|| "tls.ca cannot be used")?,
        metrics,
        directory,
        jobmanager,
    };
    let interrupted = interrupted()?;
    if let Some(file) = running {
        return plan.start_ended(file, global.output, &interrupted);
    }
    let secret = plan.prepare()?;
    let mut daemons = Vec::new();
    let started = plan.start(&mut daemons, secret, &interrupted);
    let ended = started.and_then(|()| {
        plan.announce(&daemons, global.output)?;
        if options.detached { Ok(()) } else { watch(&mut daemons, &interrupted) }
    });
    if ended.is_err() || !options.detached {
        daemon::stop(&mut daemons);
        PidFile::remove(&plan.directory);
    }
    ended
}

/// Where the taskmanager of this number serves metrics, if the first one has this address: its port is the next one.
fn metrics_address(first: &str, number: u32) -> Option<String> {
    let (host, port) = first.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    // With port 0 each gets a free one.
    let beyond = if port == 0 { 0 } else { u16::try_from(number - 1).ok()? };
    Some(format!("{host}:{}", port.checked_add(beyond)?))
}

/// Set as soon as the command is to end.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(flag)
}

/// The cluster that is to be started.
struct Plan<'a> {
    options: &'a UpOptions,
    config: Option<PathBuf>,
    /// What the command itself connects with; None for connections without TLS.
    tls: Option<Connector>,
    /// The authorities that the command and the daemons believe.
    tls_ca: Option<PathBuf>,
    /// Where the first taskmanager serves metrics; the others use the ports that follow.
    metrics: Option<String>,
    /// An absolute path.
    directory: PathBuf,
    jobmanager: String,
}

impl Plan<'_> {
    /// Creates the directories and the secret.
    fn prepare(&self) -> Result<Secret> {
        let creating = || format!("the directory {} cannot be created", self.directory.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).context(creating)?;
        fs::create_dir_all(self.directory.join("log")).context(creating)?;
        let path = self.directory.join(SECRET);
        if path.exists() { Secret::read(&path) } else { Secret::create(&path) }
    }

    /// Starts the daemons again that have ended, of a cluster that runs. They are left running, as the others are.
    fn start_ended(&self, mut file: PidFile, format: Format, interrupted: &AtomicBool) -> Result<()> {
        let ended: Vec<Process> = file.ended().cloned().collect();
        let data = self.options.data.display();
        if ended.is_empty() || file.is_watched() {
            return Err(Error::environment(format!(
                "a cluster is running in {data} already; to stop it: {}",
                self.down()
            )));
        }
        let secret = Secret::read(&self.directory.join(SECRET))?;
        let mut daemons = Vec::new();
        for Process { name, arguments, .. } in &ended {
            let arguments = arguments.iter().map(OsString::from).collect();
            let daemon = self.start_daemon(name, arguments, true)?;
            file.replace(&daemon);
            // At once: what is not in the file is never stopped.
            file.write(&self.directory)?;
            daemons.push(daemon);
        }
        self.wait_until_ready(&mut daemons, file.taskmanagers(), &self.client(secret), interrupted)?;
        let names: Vec<&str> = ended.iter().map(|process| &*process.name).collect();
        if format == Format::Json {
            let (jobmanager, pids) = (&self.jobmanager, daemons.iter().map(Daemon::pid).collect::<Vec<_>>());
            answer_json(&serde_json::json!({"jobmanager": jobmanager, "started": names, "pids": pids}))?;
        } else {
            let names = names.join(", ");
            answer(format_args!("A cluster was running in {data} already; started again: {names}.\n"))?;
        }
        Ok(())
    }

    /// Starts all daemons, and waits until they are ready.
    fn start(&self, daemons: &mut Vec<Daemon>, secret: Secret, interrupted: &AtomicBool) -> Result<()> {
        let detached = self.options.detached;
        daemons.push(self.start_daemon("jobmanager", self.jobmanager_arguments(), detached)?);
        for i in 1..=self.options.taskmanagers {
            let name = format!("taskmanager {i}");
            let arguments = self.taskmanager_arguments(&id(&name), i);
            daemons.push(self.start_daemon(&name, arguments, detached)?);
        }
        self.write_pids(daemons)?;
        self.wait_until_ready(daemons, self.options.taskmanagers, &self.client(secret), interrupted)
    }

    fn client(&self, secret: Secret) -> Client {
        let client = Client::new(vec![self.jobmanager.clone()], secret);
        client.with_timeout(REQUEST).with_tls(self.tls.clone())
    }

    fn start_daemon(&self, name: &str, arguments: Vec<OsString>, is_detached: bool) -> Result<Daemon> {
        let log = self.directory.join("log").join(format!("{}.log", id(name)));
        Daemon::start(name, log, arguments, is_detached)
    }

    fn jobmanager_arguments(&self) -> Vec<OsString> {
        let mut arguments = self.common_arguments("jobmanager", "jobmanager");
        arguments.extend(["--listen".into(), (&self.jobmanager).into()]);
        arguments.extend(["--checkpoint-store".into(), self.directory.join("checkpoints").into()]);
        arguments
    }

    fn taskmanager_arguments(&self, id: &str, number: u32) -> Vec<OsString> {
        let mut arguments = self.common_arguments("taskmanager", id);
        arguments.extend(["--jobmanager".into(), (&self.jobmanager).into()]);
        arguments.extend(["--slots".into(), self.options.slots.to_string().into()]);
        arguments.extend(["--listen", "127.0.0.1", "--address", "127.0.0.1"].map(OsString::from));
        if let Some(address) = self.metrics.as_ref().and_then(|first| metrics_address(first, number)) {
            arguments.extend(["--metrics".into(), address.into()]);
        }
        arguments
    }

    fn common_arguments(&self, verb: &str, id: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![verb.into()];
        arguments.extend(["--data".into(), self.directory.join(id).into()]);
        arguments.extend(["--secret-file".into(), self.directory.join(SECRET).into()]);
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), config.into()]);
        }
        if let Some(ca) = &self.tls_ca {
            arguments.extend(["--tls-ca".into(), ca.into()]);
        }
        arguments
    }

    fn write_pids(&self, daemons: &[Daemon]) -> Result<()> {
        let own = if self.options.detached { None } else { Process::of(WATCHER, process::id(), &[]) };
        let processes = own.into_iter().chain(daemons.iter().filter_map(Process::of_daemon)).collect();
        PidFile { jobmanager: self.jobmanager.clone(), processes }.write(&self.directory)
    }

    fn wait_until_ready(
        &self,
        daemons: &mut [Daemon],
        taskmanagers: u32,
        client: &Client,
        interrupted: &AtomicBool,
    ) -> Result<()> {
        let (began, progress) = (Instant::now(), Progress::new());
        progress.hint("waiting for the jobmanager");
        loop {
            let overview: Result<Overview> = client.get("/v1/overview");
            match &overview {
                Ok(overview) if overview.taskmanagers >= taskmanagers => return Ok(()),
                Ok(overview) => {
                    let there = overview.taskmanagers;
                    progress.hint(&format!("waiting for taskmanagers: {there} of {taskmanagers}"));
                }
                Err(_) => {}
            }
            if let Some(daemon) = daemons.iter_mut().find_map(|daemon| daemon.ended().map(|_| daemon)) {
                return Err(Error::environment(daemon.obituary()));
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err(Error::environment("the start was interrupted; the cluster is stopped"));
            }
            if began.elapsed() > PATIENCE {
                return Err(self.not_ready(overview));
            }
            thread::sleep(INTERVAL);
        }
    }

    fn not_ready(&self, overview: Result<Overview>) -> Error {
        let error = Error::environment(format!(
            "the cluster was not ready after {} s; the logs are in {}",
            PATIENCE.as_secs(),
            self.directory.join("log").display()
        ));
        match overview {
            Ok(overview) => error.caused_by(format!("{} taskmanagers are connected", overview.taskmanagers)),
            Err(cause) => error.caused_by(cause.to_string()),
        }
    }

    /// The command that stops the cluster.
    fn down(&self) -> String {
        format!("tidegate cluster down --data {}", quoted(&self.options.data.to_string_lossy()))
    }

    /// Says what there is, how to use it and how to stop it.
    fn announce(&self, daemons: &[Daemon], format: Format) -> Result<()> {
        let UpOptions { taskmanagers, slots, data, detached, .. } = self.options;
        let (jobmanager, data) = (&self.jobmanager, data.display());
        let secret = self.directory.join(SECRET);
        let ca = self
            .tls_ca
            .as_ref()
            .map(|ca| format!(" TIDEGATE_TLS_CA={}", quoted(&ca.to_string_lossy())))
            .unwrap_or_default();
        let plural = |number: &u32| if *number == 1 { "" } else { "s" };
        if format == Format::Json {
            let pids: Vec<u32> = daemons.iter().map(Daemon::pid).collect();
            answer_json(&serde_json::json!({
                "jobmanager": jobmanager, "secret_file": secret, "data": self.directory,
                "taskmanagers": taskmanagers, "slots": slots, "pids": pids,
            }))?;
            return Ok(());
        }
        let stop = if *detached { self.down() } else { "Ctrl-C".to_owned() };
        answer(format_args!(
            "The cluster is ready: its jobmanager is at {jobmanager}, with {taskmanagers} taskmanager{} of {slots} slot{} each.\n\
             Its data and logs are in {data}. To stop it: {stop}\n\
             To use it in another shell:\n\
             \x20 export TIDEGATE_JOBMANAGER={jobmanager} TIDEGATE_SECRET_FILE={}{ca}\n",
            plural(taskmanagers),
            plural(slots),
            quoted(&secret.to_string_lossy())
        ))?;
        Ok(())
    }
}

/// The name of a daemon in file names.
fn id(name: &str) -> String {
    name.replace(' ', "-")
}

/// Checks that a port is free, or finds one that is.
fn free_port(port: u32) -> Result<u16> {
    let port = u16::try_from(port).context(|| "--port")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).context(|| {
        format!("port {port} cannot be used for the jobmanager; name another with --port, or 0 for any")
    })?;
    Ok(listener.local_addr()?.port())
}

/// Watches daemons until the command is interrupted; says so when one ends.
fn watch(daemons: &mut [Daemon], interrupted: &AtomicBool) -> Result<()> {
    let mut is_said = vec![false; daemons.len()];
    while !interrupted.load(Ordering::Relaxed) {
        for (daemon, is_said) in daemons.iter_mut().zip(&mut is_said) {
            let has_ended = daemon.ended().is_some();
            if has_ended && !std::mem::replace(is_said, true) {
                say(format_args!("Error: {}", daemon.obituary()));
            }
        }
        if is_said.iter().all(|is_said| *is_said) {
            return Err(Error::environment("no daemon of the cluster runs any more"));
        }
        thread::sleep(INTERVAL);
    }
    let progress = Progress::new();
    progress.hint("waiting until the daemons have ended");
    daemon::stop(daemons);
    drop(progress);
    say("The cluster is stopped; its data is kept.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taskmanagers_serve_metrics_side_by_side() {
        let addresses =
            |first: &str| (1..=3).map(|number| metrics_address(first, number)).collect::<Vec<_>>();
        let all = |addresses: [&str; 3]| addresses.map(|address| Some(address.to_owned())).to_vec();
        assert_eq!(addresses("host:9401"), all(["host:9401", "host:9402", "host:9403"]));
        assert_eq!(addresses("[::1]:0"), all(["[::1]:0"; 3]));
        assert_eq!(metrics_address("host:65535", 2), None);
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = free_port(port.into()).unwrap_err().to_string();
        assert!(error.contains("name another with --port"), "{error}");
        assert_ne!(free_port(0).unwrap(), 0);
    }
}
