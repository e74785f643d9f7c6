//! A storm over a real cluster: its daemons and job processes are killed, paused and cut off from each other under load.
//!
//! A storm is a sequence of *rounds*. In a round a job follows an input that grows; faults come one after the other; after
//! each, a new epoch must be published within the patience, and everything visible must be right. At the end of a round the
//! job is stopped with `--drain`: nothing may be missing, and no process of the job may be left. The cluster goes on into
//! the next round.
//!
//! Every daemon is a process of its own. Where this program may make network namespaces, every host is one, and the storm
//! cuts connections between them; elsewhere all hosts share the loopback interface. What cannot be done here is skipped, by
//! name.
//!
//! | module | what it is |
//! |---|---|
//! | [`options`] | what a storm is asked to do, and the command that asks for it again |
//! | [`fault`], [`schedule`] | the kinds of faults; which comes next, drawn from the seed |
//! | [`facilities`] | which of them can be done here |
//! | [`network`], [`clock`], [`store`] | hosts as network namespaces; a clock for each host; the checkpoint store's disk |
//! | [`daemon`], [`processes`], [`client`] | a daemon; signals and what runs; the command line of the cluster's users |
//! | [`brokers`], [`members`] | the brokers of a storm with Kafka; the hosts with their daemons |
//! | [`endpoints`] | where a job reads and writes: directories, or topics |
//! | [`feeder`] | the input that grows |
//! | [`published`], [`auditor`] | what is visible; the same, held against the oracle |
//! | [`inflict`], [`operations`] | how each fault is carried out; a rescale, a savepoint and a stop amid faults |
//! | [`round`], [`storm`], [`report`] | a job from its start to its drained end; the loop; the table |
//!
//! With `--kafka` a job reads a topic and writes topics, and brokers have faults, too: for longer than the timeout of transactions
//! in one case of two. What is visible is then what a reader of committed messages sees, who reads all the time; another one comes
//! at the end. For how long such a reader is blocked by an open transaction is measured, and has bounds: one publishing, while
//! nothing is disturbed; around faults the timeout of transactions, after which brokers abort what a dead process has left.
//!
//! The seed decides on the input, the order of the faults, their spans and targets. The instants follow from how fast the
//! cluster recovers, so a repetition comes close, but not to the microsecond.
//!
//! Not here: how what is visible is judged (`judge`), what must come out (`oracle`).

pub mod auditor;
pub mod brokers;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod endpoints;
pub mod facilities;
pub mod fault;
pub mod feeder;
pub mod inflict;
pub mod members;
pub mod network;
pub mod operations;
pub mod options;
pub mod processes;
pub mod published;
pub mod report;
pub mod round;
pub mod schedule;
pub mod store;
pub mod storm;

pub use options::StormOptions;
