//! What can be done on this machine, found out by doing it.

use crate::cluster::clock::ClockLibrary;
use crate::cluster::fault::{Fault, Need};
use crate::cluster::network::Network;
use crate::cluster::options::{LayoutChoice, StormOptions};
use crate::cluster::store::Store;
use crate::failure::{Failure, Result};
use std::path::Path;

/// What is there, or the reason why it is not.
pub struct Facilities {
    /// A network namespace a host.
    pub namespaces: std::result::Result<(), String>,
    /// The checkpoint store on a disk of its own.
    pub small_disk: std::result::Result<(), String>,
    /// A clock a host.
    pub clocks: std::result::Result<ClockLibrary, String>,
    /// Brokers, which the job reads from and writes to.
    pub kafka: bool,
}

impl Facilities {
    /// Tries everything; `dir` is for what that needs.
    pub fn find(dir: &Path, options: &StormOptions) -> Result<Facilities> {
        let layout = options.layout;
        let namespaces = match layout {
            LayoutChoice::Loopback => Err("all hosts share the loopback interface".to_owned()),
            _ => try_network().map_err(|failure| failure.to_string()),
        };
        if let (LayoutChoice::Namespaces, Err(reason)) = (layout, &namespaces) {
            return Err(Failure::new(format!("there are no network namespaces here: {reason}")));
        }
        Ok(Facilities {
            namespaces,
            small_disk: Store::cannot_mount(dir).map_or(Ok(()), Err),
            clocks: ClockLibrary::compile(dir).map_err(|failure| failure.to_string()),
            kafka: options.kafka,
        })
    }

    /// Why the fault cannot be done here; None if it can.
    pub fn obstacle(&self, fault: Fault) -> Option<String> {
        let without_brokers =
            || (!self.kafka).then(|| "the job reads and writes files, without --kafka".to_owned());
        let apart = |reason: &String| format!("{reason}; with one broker its pause is the same to the job");
        match fault.need() {
            Need::Nothing => None,
            Need::Namespaces => self.namespaces.as_ref().err().cloned(),
            Need::SmallDisk => self.small_disk.as_ref().err().cloned(),
            Need::Clocks => self.clocks.as_ref().err().cloned(),
            Need::Files => {
                self.kafka.then(|| "a topic takes nothing back: the job refuses an older snapshot".to_owned())
            }
            Need::Kafka => without_brokers(),
            Need::KafkaNetwork => without_brokers().or_else(|| self.namespaces.as_ref().err().map(apart)),
        }
    }
}

/// Everything that the network is used for, once.
fn try_network() -> Result<()> {
    let host = |name: &str, address: &str| (name.to_owned(), address.to_owned());
    let network = Network::new(&[host("trial-a", "10.213.77.1"), host("trial-b", "10.213.77.2")])?;
    network.cut("10.213.77.1", "trial-b")?;
    network.lose("trial-a", 20)?;
    network.heal("trial-a")
}
