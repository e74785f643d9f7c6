//! A process of a job on a cluster: it is started by a taskmanager, and does what it is told by the jobmanager.
//!
//! - [`taskmanager`]: the socket to the taskmanager, on which everything else depends.
//! - [`connect`]: the connections to the other processes of the attempt.
//! - [`run`](mod@run): a process from its first message to its end.
//!
//! Not here: what runs in the process once it is connected ([`crate::job_process`]), and any decision about when that is:
//! those are the jobmanager's.

pub(crate) mod connect;
mod run;
mod taskmanager;

pub(crate) use run::run;
pub(crate) use taskmanager::TaskManager;
