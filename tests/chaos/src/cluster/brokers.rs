//! The brokers of a storm, on a host of their own, and the host from which its topics are written and read.

use crate::cluster::network;
use crate::failure::{Context, Result};
use crate::topics::Topics;
use tidegate_kafka_tests::{Brokers, Host};

/// The host of the brokers.
pub const HOST: &str = "brokers";
/// The host of those who write and read topics. No fault comes between it and the brokers.
pub const READER: &str = "reader";

/// Brokers that have faults.
pub struct StormBrokers {
    /// The address of their host, for the network.
    pub address: String,
    /// The topics.
    pub topics: Topics,
    brokers: Brokers,
    nodes: usize,
}

impl StormBrokers {
    /// Starts so many, on this address; on the loopback interface if that is none.
    pub fn start(address: Option<&str>, nodes: usize) -> Result<StormBrokers> {
        let host = address.map_or_else(Host::default, |address| Host {
            address: address.to_owned(),
            command: network::entering(HOST).to_vec(),
        });
        let at = host.address.clone();
        let brokers = Brokers::start_on(host, nodes, &[]).context("the brokers do not start")?;
        let topics = Topics::new(brokers.bootstrap(), address.map(|_| READER));
        Ok(StormBrokers { address: at, topics, brokers, nodes })
    }

    /// The number of one of them.
    pub fn choose(&self, dice: u64) -> usize {
        1 + (dice % self.nodes as u64) as usize
    }

    /// The numbers of all.
    pub fn all(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.nodes
    }

    /// kill -9.
    pub fn kill(&self, node: usize) -> Result<()> {
        self.brokers.kill(node).context("a broker has ended by itself")
    }

    /// Starts one again that was killed.
    pub fn restart(&self, node: usize) -> Result<()> {
        self.brokers.restart(node).context("a broker does not start again")
    }

    /// SIGSTOP.
    pub fn pause(&self, node: usize) -> Result<()> {
        self.brokers.pause(node).context("a broker has ended by itself")
    }

    /// SIGCONT.
    pub fn resume(&self, node: usize) -> Result<()> {
        self.brokers.go_on(node).context("a broker has ended by itself")
    }

    /// What they have logged last.
    pub fn last_lines(&self, lines: usize) -> Vec<String> {
        self.all().flat_map(|node| self.brokers.last_lines(node, lines)).collect()
    }
}
