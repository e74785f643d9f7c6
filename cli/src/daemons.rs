//! The daemons: `tidegate jobmanager` and `tidegate taskmanager`, from their configuration.
//!
//! A daemon listens on the loopback interface unless it is told otherwise. There it can do with a secret of its user alone,
//! which the first daemon creates; a daemon that other hosts can reach needs the secret file of its cluster.
//!
//! Not here: what daemons do.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{self, Path, PathBuf};
use std::process;

use tidegate_access::Secret;
use tidegate_jobmanager::settings::{ConnectionLimits, JobDefaults};
use tidegate_object_store::S3Settings;
use tidegate_protocol::{Error, ErrorContext, Result};

use crate::config::keys::{self, AnyKey};
use crate::config::{Config, Origin};
use crate::{logging, open_files, tls};

/// The exit code of a daemon of which a thread has panicked, the usual one for a panic.
const PANICKED: i32 = 101;

/// Ends the process when one of its threads panics: others would wait for ever for what that thread had to do. Whoever
/// watches the daemon starts it again, from what is on its disk. Only a request that panics ends alone.
fn end_on_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name() != Some(tidegate_jobmanager::SERVER_THREAD) {
            process::exit(PANICKED);
        }
    }));
}

/// Runs a jobmanager until it is asked to end by a signal.
pub(crate) fn jobmanager(config: &Config) -> Result<()> {
    logging::start()?;
    end_on_panics();
    tidegate_failpoint::from_environment().map_err(Error::environment)?;
    let settings = jobmanager_settings(config)?;
    tls::warn_of_plain_connections(settings.listen.ip(), settings.tls.as_ref());
    let connections = open_files::make_room(settings.connections);
    tidegate_jobmanager::run(tidegate_jobmanager::Settings { connections, ..settings })
}

fn jobmanager_settings(config: &Config) -> Result<tidegate_jobmanager::Settings> {
    if config.find(&keys::PEERS)?.is_some_and(|peers| peers.len() > 1) {
        let origin = config.entry(&keys::PEERS).map(|entry| entry.origin.to_string()).unwrap_or_default();
        return Err(Error::environment(format!(
            "several jobmanagers are not supported yet: leave {} out, or name this jobmanager only ({origin})",
            keys::PEERS.name()
        )));
    }
    let listen = resolve(&config.get(&keys::JOBMANAGER_LISTEN, Some("--listen"))?)?;
    Ok(tidegate_jobmanager::Settings {
        listen,
        data: config.get(&keys::JOBMANAGER_DATA, Some("--data"))?,
        checkpoint_store: config.get(&keys::CHECKPOINT_STORE, Some("--checkpoint-store"))?,
        s3: s3_settings(config)?,
        secret: secret(config, listen.ip())?,
        lease: config.get(&keys::LEASE, None)?,
        job: job_defaults(config)?,
        metrics: config.find(&keys::JOBMANAGER_METRICS)?.map(|address| resolve(&address)).transpose()?,
        connections: ConnectionLimits {
            total: config.get(&keys::CONNECTIONS, None)? as usize,
            strangers: config.get(&keys::CONNECTIONS_UNAUTHENTICATED, None)? as usize,
            strangers_per_address: config.get(&keys::CONNECTIONS_PER_ADDRESS, None)? as usize,
            authentication: config.get(&keys::AUTHENTICATION, None)?,
        },
        tls: tls::files(config)?,
    })
}

/// What is set for the jobs of the cluster.
fn job_defaults(config: &Config) -> Result<JobDefaults> {
    let mut job = JobDefaults::default();
    for key in keys::OF_JOBS {
        if let Some(text) = config.find(key)? {
            job.set(key.name(), &text).map_err(Error::environment)?;
        }
    }
    Ok(job)
}

/// Runs a taskmanager until it is asked to end by a signal.
pub(crate) fn taskmanager(config: &Config) -> Result<()> {
    logging::start()?;
    end_on_panics();
    let settings = taskmanager_settings(config)?;
    tls::warn_of_plain_connections(settings.listen, settings.tls.as_ref());
    tidegate_taskmanager::run(settings)
}

fn taskmanager_settings(config: &Config) -> Result<tidegate_taskmanager::Settings> {
    let listen = config.get(&keys::TASKMANAGER_LISTEN, Some("--listen"))?;
    Ok(tidegate_taskmanager::Settings {
        jobmanagers: config.get(&keys::JOBMANAGER, Some("--jobmanager"))?,
        slots: config.get(&keys::SLOTS, Some("--slots"))?,
        data: config.get(&keys::TASKMANAGER_DATA, Some("--data"))?,
        secret: secret(config, listen)?,
        listen,
        address: config.find(&keys::TASKMANAGER_ADDRESS)?,
        lease: config.get(&keys::LEASE, None)?,
        away: config.get(&keys::AWAY, None)?,
        log_bytes: config.get(&keys::LOG_BYTES, None)?,
        log_files: config.get(&keys::LOG_FILES, None)?,
        s3: s3_settings(config)?,
        metrics: config.find(&keys::TASKMANAGER_METRICS)?.map(|address| resolve(&address)).transpose()?,
        tls: tls::files(config)?,
    })
}

/// How a daemon reaches a bucket. Job processes run elsewhere: the path of a file is absolute for them.
fn s3_settings(config: &Config) -> Result<S3Settings> {
    let file = config.find(&keys::S3_CREDENTIALS_FILE)?;
    let file =
        file.map(|path| path::absolute(&path).context(|| keys::S3_CREDENTIALS_FILE.name())).transpose()?;
    Ok(S3Settings {
        endpoint: config.find(&keys::S3_ENDPOINT)?,
        region: config.find(&keys::S3_REGION)?,
        virtual_hosted_style: config.find(&keys::S3_VIRTUAL_HOSTED_STYLE)?,
        credentials_file: file,
        ..S3Settings::default()
    })
}

/// The first address of a host and a port.
fn resolve(text: &str) -> Result<SocketAddr> {
    let mut found = text.to_socket_addrs().context(|| format!("the address {text} is not known here"))?;
    found.next().ok_or_else(|| Error::environment(format!("the host of {text} has no address")))
}

/// The secret of the cluster, for a daemon that listens at this address.
fn secret(config: &Config, listen: IpAddr) -> Result<Secret> {
    let is_named = config.entry(&keys::SECRET_FILE).is_some_and(|entry| entry.origin != Origin::Default);
    if !is_named && !listen.is_loopback() {
        return Err(Error::environment(format!(
            "this daemon is to listen at {listen}, where other hosts can reach it: name the secret file of the cluster with \
             --secret-file FILE or the environment variable {}",
            keys::SECRET_FILE.variable()
        )));
    }
    let path = config.get(&keys::SECRET_FILE, Some("--secret-file"))?;
    if !is_named {
        create_if_missing(&path)?;
    }
    Secret::read(&path)
}

/// Creates a secret file. Several daemons may do so at the same time: the file gets its name when it is complete.
fn create_if_missing(path: &Path) -> Result<()> {
    remove_unfinished(path);
    if path.exists() {
        return Ok(());
    }
    let doing = || format!("the secret file {} cannot be created", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).context(doing)?;
    }
    let new = unfinished(path, process::id());
    Secret::create(&new)?;
    let linked = fs::hard_link(&new, path);
    // What cannot be removed is found by the next daemon that is started.
    drop(fs::remove_file(&new));
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::from(e).context(doing())),
        _ => Ok(()),
    }
}

/// Where a process writes a secret until it is complete.
fn unfinished(path: &Path, pid: u32) -> PathBuf {
    path.with_extension(format!("new-{pid}"))
}

/// Removes what processes have left that have died while they wrote the secret. It has this process' number if numbers are
/// few, as in a container; then this process could not create its own file.
fn remove_unfinished(path: &Path) {
    // Without the directory, nothing is in it.
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return };
    for left in entries.flatten().map(|entry| entry.path()) {
        let pid = left.extension().and_then(|text| text.to_str()?.strip_prefix("new-")?.parse().ok());
        let is_left = |pid: &u32| unfinished(path, *pid) == left && !is_of_another(*pid);
        if pid.as_ref().is_some_and(is_left) {
            // It keeps nobody from working, and another daemon may be removing it, too.
            drop(fs::remove_file(left));
        }
    }
}

/// Whether a process with this number runs that is not this one, of whatever user.
fn is_of_another(pid: u32) -> bool {
    let Some(number) = i32::try_from(pid).ok().filter(|number| *number > 0) else { return false };
    // SAFETY: signal 0 is sent to nobody; it is only checked whether it could be.
    let is_there = unsafe { libc::kill(number, 0) } == 0;
    let is_forbidden = || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    pid != process::id() && (is_there || is_forbidden())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    #[test]
    fn a_daemon_that_others_can_reach_needs_the_secret_of_its_cluster() {
        let everywhere = Config::of_flags(vec![
            Given::flag(&keys::JOBMANAGER_LISTEN, "--listen", "0.0.0.0:0"),
            Given::flag(&keys::TASKMANAGER_LISTEN, "--listen", "::"),
            Given::flag(&keys::JOBMANAGER_DATA, "--data", "data"),
            Given::flag(&keys::TASKMANAGER_DATA, "--data", "data"),
            Given::flag(&keys::CHECKPOINT_STORE, "--checkpoint-store", "store"),
        ]);
        let errors = [jobmanager_settings(&everywhere).err(), taskmanager_settings(&everywhere).err()];
        for error in errors {
            let error = error.unwrap().to_string();
            assert!(error.contains("where other hosts can reach it: name the secret file"), "{error}");
        }
    }

    #[test]
    fn several_jobmanagers_are_refused() {
        let peers = Config::of_flags(vec![Given::flag(&keys::PEERS, "--peers", "a:1,b:2")]);
        let error = jobmanager_settings(&peers).err().unwrap().to_string();
        assert!(error.starts_with("several jobmanagers are not supported yet: "), "{error}");
    }

    #[test]
    fn a_secret_is_created_once_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/secret");
        create_if_missing(&path).unwrap();
        let first = fs::read(&path).unwrap();
        create_if_missing(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        Secret::read(&path).unwrap();
    }

    #[test]
    fn what_a_dead_daemon_has_left_of_a_secret_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let mut dead = process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        // SAFETY: it only asks.
        let parent = unsafe { libc::getppid() } as u32;
        let left = [dead.id(), process::id()].map(|pid| unfinished(&path, pid));
        let others =
            [unfinished(&path, parent), path.with_extension("new-x"), directory.path().join("a.new-1")];
        left.iter().chain(&others).for_each(|path| fs::write(path, "half of a secr").unwrap());
        // Whether the secret was completed or not.
        for _ in 0..2 {
            create_if_missing(&path).unwrap();
            assert!(left.iter().all(|path| !path.exists()) && others.iter().all(|path| path.exists()));
            Secret::read(&path).unwrap();
            fs::write(&left[0], "half of a secr").unwrap();
        }
    }
}
