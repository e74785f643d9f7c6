//! A process of a job: what runs in it beside the workers, whether the job runs alone or on a cluster.
//!
//! - [`description`]: what the job consists of, found by describing it once without running it.
//! - [`discovery`]: asks followed sources for new partitions.
//! - [`watchdog`]: notices steps that do not return.
//! - `why`: what the process knows of what holds event time or a barrier back.
//! - [`running`]: the workers, the publishers and the discovery of a process, from their start to their end.
//!
//! Not here: the driver, with which a process exchanges messages ([`crate::link`]), and who it is: a thread of the same
//! process ([`crate::local`]), or the jobmanager.

pub(crate) mod description;
mod discovery;
pub(crate) mod running;
pub(crate) mod watchdog;
mod why;
