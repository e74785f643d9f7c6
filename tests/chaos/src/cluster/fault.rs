//! The kinds of faults.

use clap::ValueEnum;
use std::fmt;

/// What a storm can do to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// kill -9 of a job process
    KillProcess,
    /// kill -9 of a taskmanager, which is started again after a moment
    KillTaskmanager,
    /// kill -9 of the jobmanager, which is started again after a moment
    KillJobmanager,
    /// kill -9 of a taskmanager and its job processes; it comes back when the job runs elsewhere, if there are slots
    KillHost,
    /// kill -9 of everything at once
    KillAll,
    /// SIGSTOP of a job process, then SIGCONT
    PauseProcess,
    /// SIGSTOP of a taskmanager, then SIGCONT
    PauseTaskmanager,
    /// SIGSTOP of the jobmanager, then SIGCONT
    PauseJobmanager,
    /// SIGSTOP of a taskmanager and its job processes, then SIGCONT
    PauseHost,
    /// No packets between two hosts
    Partition,
    /// No packets from one host to another
    PartitionOneWay,
    /// A host loses a share of its packets
    PacketLoss,
    /// The checkpoint store's disk is full
    FullDisk,
    /// The checkpoint store is not there
    StoreAway,
    /// A file of the newest snapshot is damaged, and the job restarted
    Damage,
    /// The clocks of one host, or of all, are set back
    ClockBack,
    /// The job is rescaled, perhaps with a kill in the middle
    Rescale,
    /// A savepoint is made, perhaps with a kill in the middle
    Savepoint,
    /// The job is stopped with a savepoint and started from it, perhaps with a kill in the middle
    Stop,
    /// kill -9 of a broker, which is started again, in one case of two after the timeout of transactions
    KillBroker,
    /// SIGSTOP of a broker, then SIGCONT, in one case of two after the timeout of transactions
    PauseBroker,
    /// No packets between the brokers and one taskmanager, or all of them
    PartitionBroker,
    /// kill -9 of everything, brokers first or last; all is away, in one case of two for longer than the timeout of transactions
    Outage,
}

/// What this machine must allow for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing special.
    Nothing,
    /// A network namespace a host.
    Namespaces,
    /// The checkpoint store on a disk of its own.
    SmallDisk,
    /// A clock a host.
    Clocks,
    /// Jobs that write files.
    Files,
    /// Jobs that read and write topics.
    Kafka,
    /// The same, and a network namespace for the brokers.
    KafkaNetwork,
}

impl Fault {
    /// All of them.
    pub fn all() -> &'static [Fault] {
        Fault::value_variants()
    }

    /// Those of a storm with brokers, or without. What a storm without brokers has no use for is not told as skipped.
    pub fn all_of(kafka: bool) -> Vec<Fault> {
        let is_of = |fault: &Fault| kafka || !matches!(fault.need(), Need::Kafka | Need::KafkaNetwork);
        Fault::all().iter().copied().filter(is_of).collect()
    }

    /// What it needs.
    pub fn need(self) -> Need {
        match self {
            Fault::Partition | Fault::PartitionOneWay | Fault::PacketLoss => Need::Namespaces,
            Fault::FullDisk => Need::SmallDisk,
            Fault::ClockBack => Need::Clocks,
            Fault::Damage => Need::Files,
            Fault::KillBroker | Fault::PauseBroker | Fault::Outage => Need::Kafka,
            Fault::PartitionBroker => Need::KafkaNetwork,
            _ => Need::Nothing,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}
