//! What a process of a job on a cluster exchanges with its taskmanager, over a local socket.
//!
//! Every message is a line of JSON. The order at a start:
//!
//! ```text
//! taskmanager -> process   Prepare: which attempt, which workers, which snapshot
//! process -> taskmanager   Listening: where the other processes of the attempt can connect to it
//!                          Prepared: (the first process) output of the snapshot is published; the partitions of the sources
//! taskmanager -> process   Begin: where all processes listen, which worker reads which partitions
//! process -> taskmanager   Report(Ready), and so on; see `link`
//! ```
//!
//! The taskmanager passes all of it on to the jobmanager and back; the messages in [`ToJobProcess::Command`] and
//! [`FromJobProcess::Report`] are those of a job that runs alone, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Epoch, JobId, KeyGroups, Slot};
use crate::link::{ToDriver, ToProcess};
use crate::manifest::Manifest;

/// The environment variable that tells a job's program the number of the open socket to its taskmanager.
pub const SOCKET_VARIABLE: &str = "TIDEGATE_TASKMANAGER_SOCKET";

/// The exit code of a job process that may work when it is started again (EX_TEMPFAIL of `sysexits.h`): it has lost its
/// taskmanager, or has failed with an error of the environment.
pub const TEMPORARY: i32 = 75;

/// A message of the taskmanager to a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToJobProcess {
    /// The first message.
    Prepare(Box<Preparation>),
    /// All processes of the attempt listen, and the first one is prepared: connect, restore and run.
    Begin(Box<Begin>),
    /// A message of the driver.
    Command(ToProcess),
    /// The taskmanager lives. A process that has heard nothing for [`Preparation::silence_ms`] ends itself.
    Ping,
    /// The metrics are wanted, as Prometheus reads them.
    Metrics,
    /// A user asks what holds event time or the barrier back. The answer is a
    /// [`ProcessAnswer`](crate::why::ProcessAnswer), beside the messages to the jobmanager.
    Why {
        /// The number of the request, for the answer.
        request: u64,
    },
}

/// A message of a process to its taskmanager.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromJobProcess {
    /// The other processes can connect here.
    Listening {
        /// The port, at the taskmanager's address.
        port: u16,
    },
    /// The first process has published what the restored snapshot held, and cleaned up the targets of the sinks.
    Prepared {
        /// The partitions that every source has now.
        partitions: BTreeMap<String, Vec<String>>,
    },
    /// The snapshot that was to be restored is damaged.
    Damaged {
        /// Its epoch.
        epoch: Epoch,
        /// What is wrong with it.
        why: String,
    },
    /// A message to the driver.
    Report(ToDriver),
    /// What a user should know: a line that is also in the log.
    Note {
        /// True for a warning.
        warning: bool,
        /// The text.
        text: String,
    },
    /// The process lives.
    Pong,
    /// The metrics, as Prometheus reads them.
    Metrics(String),
}

/// The files with which a daemon or a job process proves who it is, and knows the others. All are PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate, and those of intermediate authorities behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities whose certificates are accepted.
    pub ca: PathBuf,
    /// The name that the certificate of whoever is connected to must have; None for the host of the address.
    pub server_name: Option<String>,
}

/// What a process has to know before it can be connected to the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Preparation {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The number of workers of the job.
    pub parallelism: u32,
    /// The slot of the first worker of this process.
    pub first: Slot,
    /// The number of workers of this process, and of every other one of the attempt.
    pub workers: u32,
    /// The key groups of the job.
    pub key_groups: KeyGroups,
    /// Memory for keyed state of all workers of the job, in bytes; None for what the job's own flags say.
    pub memory: Option<u64>,
    /// Where the job's snapshots are.
    pub store: String,
    /// Where running state stores are, on a disk of the host.
    pub working: PathBuf,
    /// Where copies of stored files may be kept on the host, for a store that is not a directory.
    #[serde(default)]
    pub copies: PathBuf,
    /// The epoch whose snapshot is restored; None for a start from the beginning.
    pub restored: Option<Epoch>,
    /// The last epoch that is known to be published.
    pub published: Epoch,
    /// The first epoch of the attempt.
    pub first_epoch: Epoch,
    /// The prefix of each operator's keys in the state store.
    pub store_ids: BTreeMap<String, u16>,
    /// Whether the job is draining.
    pub drains: bool,
    /// What a process of this attempt proves to another that it belongs to it.
    pub secret: String,
    /// The address to listen at.
    pub listen: String,
    /// The files for connections to the other processes of the attempt; None for connections without TLS. It is filled in
    /// by the taskmanager, whose host has the files.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// After so many milliseconds without a message of the taskmanager the process ends itself.
    pub silence_ms: u64,
}

impl Preparation {
    /// The workers of a snapshot whose state the workers of this process restore.
    pub fn restores_from(&self, manifest: &Manifest) -> BTreeSet<Slot> {
        let owned = |slot: u32| manifest.key_groups.range(slot as usize, self.parallelism as usize);
        let groups = owned(self.first.0).start..owned(self.first.0 + self.workers - 1).end;
        manifest.slots_with(&groups).map(|(slot, _)| slot).collect()
    }
}

/// What a process needs to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// Where the processes of the attempt listen, in their order.
    pub addresses: Vec<String>,
    /// The partitions of each source, for every worker.
    pub assigned: BTreeMap<String, Vec<Vec<String>>>,
}
