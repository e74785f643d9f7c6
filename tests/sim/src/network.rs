//! The connections between taskmanagers and the jobmanager.
//!
//! Messages of one connection arrive in order, each direction for itself. What is on its way when a connection breaks is
//! lost, and each side notices the break on its own.

use std::collections::{BTreeMap, VecDeque};

use tidegate_protocol::taskmanager::{FromTaskManager, ToTaskManager};

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) host: usize,
    /// The life of the host that it belongs to.
    pub(crate) host_life: u64,
    pub(crate) server_life: u64,
    pub(crate) to_host: VecDeque<ToTaskManager>,
    pub(crate) to_server: VecDeque<FromTaskManager>,
    /// When the last message of a direction arrives.
    pub(crate) last: (u64, u64),
    /// Nothing arrives before this time.
    pub(crate) stalled_until: u64,
    /// Whether the registration has arrived.
    pub(crate) is_registered: bool,
    /// Whether it is broken; what the server has received already still counts.
    pub(crate) is_broken: bool,
}

/// All connections, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<u64, Connection>,
    next: u64,
}

impl Network {
    pub(crate) fn connect(&mut self, host: usize, host_life: u64, server_life: u64) -> u64 {
        self.next += 1;
        let connection = Connection {
            host,
            host_life,
            server_life,
            to_host: VecDeque::new(),
            to_server: VecDeque::new(),
            last: (0, 0),
            stalled_until: 0,
            is_registered: false,
            is_broken: false,
        };
        self.connections.insert(self.next, connection);
        self.next
    }

    pub(crate) fn get(&mut self, number: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&number)
    }
}
