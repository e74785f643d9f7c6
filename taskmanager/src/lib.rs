//! The taskmanager: runs the processes of jobs on one host.
//!
//! [`run`] connects to the jobmanager and does what it is told: it fetches executables, starts and kills processes, passes
//! messages between them and the jobmanager on, and keeps their logs. It decides nothing about jobs. What it guarantees by
//! itself:
//!
//! - A job process does not outlive its taskmanager: the kernel kills it when the thread that has started it ends. All are
//!   started by the thread that calls [`run`]. (`child.rs`)
//! - A process of an attempt is started after all processes of older attempts of the job on this host have ended.
//! - A process that does not answer is killed, and so are all if no jobmanager was reached for a long time.
//! - What the jobmanager has to know of a process and cannot ask for is told again after every registration.
//!
//! Modules, in reading order:
//!
//! - [`supervisor`]: the decisions, without I/O: events and the time come in, effects go out. It is public for the simulation in
//!   `tests/sim`.
//! - `runner`: the event loop, which carries the effects out.
//! - `link`: the connection to the jobmanager, on a thread of its own.
//! - `job_process`: the threads around a process: its socket, its output, its exit. `child`: how it is started and killed.
//! - `executables`, `describe`: how an executable gets here, and what it says of its job.
//! - `copies`: copies of files that jobs have in a bucket.
//! - `log_file`, `log_reader`: the output of processes, as files and for who asks for it.
//! - `metrics`: those of the taskmanager and of its processes, for Prometheus.
//! - `data_directory`: where all of that is.
//!
//! Not here: which processes there should be (the jobmanager's), what a job process does (crate `tidegate`, module
//! `cluster`), the connections between job processes, which do not pass through the taskmanager.

mod child;
mod copies;
mod data_directory;
mod describe;
mod executables;
mod job_process;
mod link;
mod log_file;
mod log_reader;
mod metrics;
mod runner;
mod settings;
pub mod supervisor;

pub use runner::run;
pub use settings::Settings;
