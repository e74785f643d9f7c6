//! The jobmanager's end of the connections.

use tidegate_control::cluster::ClusterInput;
use tidegate_protocol::taskmanager::{FromTaskManager, ToTaskManager};

use super::LEASE_MS;
use crate::queue::Event;
use crate::world::World;

impl World {
    pub(super) fn push_to_host(&mut self, number: u64, message: ToTaskManager) {
        let delay = self.network_delay();
        let Some(connection) = self.network.get(number).filter(|connection| !connection.is_broken) else {
            return;
        };
        let at = (self.now + delay).max(connection.last.0).max(connection.stalled_until);
        connection.last.0 = at;
        connection.to_host.push_back(message);
        self.queue.add(at, Event::ToHost { connection: number });
    }

    pub(crate) fn network_delay(&mut self) -> u64 {
        if self.is_healed { self.random.between(0, 3) } else { self.random.delay(5, 400, 40) }
    }

    pub(crate) fn arrives_at_server(&mut self, number: u64) {
        let Some(connection) = self.network.get(number) else { return };
        if connection.stalled_until > self.now {
            let until = connection.stalled_until;
            return self.queue.add(until, Event::ToServer { connection: number });
        }
        let (life, host) = (connection.server_life, connection.host);
        let Some(message) = connection.to_server.pop_front().filter(|_| self.is_life(life)) else { return };
        let id = self.hosts[host].id.clone();
        match message {
            FromTaskManager::Register(registration) => {
                if let Some(connection) = self.network.get(number) {
                    connection.is_registered = true;
                }
                self.push_to_host(number, ToTaskManager::Registered { lease_ms: LEASE_MS });
                let older = self.jobmanager.as_mut().and_then(|j| j.connections.insert(id, number));
                older.into_iter().for_each(|older| self.break_connection(older));
                self.brain(ClusterInput::Connected(registration));
            }
            message => {
                let current = self.jobmanager.as_ref().and_then(|j| j.connections.get(&id).copied());
                if current == Some(number) {
                    self.brain(ClusterInput::FromTaskManager(id, message));
                }
            }
        }
    }

    /// Breaks a connection. Both sides notice it later.
    pub(crate) fn break_connection(&mut self, number: u64) {
        let (at_host, at_server) =
            (self.random.delay(50, LEASE_MS, 200), self.random.delay(50, LEASE_MS, 200));
        let is_all_lost = self.random.chance(500);
        let Some(connection) = self.network.get(number).filter(|connection| !connection.is_broken) else {
            return;
        };
        connection.is_broken = true;
        connection.to_host.clear();
        if is_all_lost {
            connection.to_server.clear();
        }
        let (host, host_life, life) = (connection.host, connection.host_life, connection.server_life);
        let id = self.hosts[host].id.clone();
        self.note(format_args!("the connection {number} of {id} is broken"));
        self.after(at_host, Event::HostNotices { host, life: host_life, connection: number });
        self.after(at_server, Event::ServerNotices { life, connection: number });
    }

    /// The jobmanager notices that a connection is over.
    pub(crate) fn server_notices(&mut self, life: u64, number: u64) {
        self.break_connection(number);
        let Some(connection) = self.network.connections.remove(&number) else { return };
        let id = self.hosts[connection.host].id.clone();
        let Some(jobmanager) = self.jobmanager.as_mut().filter(|j| j.life == life) else { return };
        if jobmanager.connections.get(&id) == Some(&number) {
            jobmanager.connections.remove(&id);
            self.brain(ClusterInput::Disconnected(id));
        }
    }
}
