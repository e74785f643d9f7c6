//! How many connections there may be, and of whom.
//!
//! A connection is a stranger's until a request on it was signed with the cluster secret. Strangers are few and have little
//! time; if there are too many, the oldest makes room for the next ([`Strangers`]). Whoever has the secret is counted, and
//! refused only if there is no room at all.
//!
//! Not here: sockets, and the reading of requests (`listener`).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_transport::{Limits, Strangers};
use tokio::sync::oneshot;

use crate::settings::ConnectionLimits;

/// All connections of the server.
#[derive(Debug)]
pub(super) struct Connections {
    total: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    count: usize,
    strangers: Strangers<Closer>,
}

/// Closes a connection; when it is dropped instead, the connection is no stranger's any more.
type Closer = oneshot::Sender<()>;

/// A connection that counts. It is over when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    connections: Arc<Connections>,
    number: u64,
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) seat: Arc<Seat>,
    /// Whether it has shown a certificate of the cluster's authorities.
    pub(super) has_certificate: bool,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        let ConnectionLimits { total, strangers, strangers_per_address, .. } = limits;
        let strangers = Strangers::new(Limits { total: strangers, per_address: strangers_per_address });
        Arc::new(Self { total, table: Mutex::new(Table { count: 0, strangers }) })
    }

    /// A stranger has connected. The receiver gets a message when the connection must be closed, and an error when it is no
    /// stranger's any more. None if there is no room, because all connections have proved the secret.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<(Arc<Seat>, oneshot::Receiver<()>)> {
        let (closer, closed) = oneshot::channel();
        let mut table = self.table();
        if table.count >= self.total {
            close(table.strangers.leave_oldest()?);
        }
        let (number, oldest) = table.strangers.enter(address, closer);
        oldest.into_iter().for_each(close);
        table.count += 1;
        drop(table);
        Some((Arc::new(Seat { connections: self.clone(), number }), closed))
    }

    /// Closes the oldest stranger: the system is short of something that connections need.
    pub(super) fn close_oldest(&self) {
        self.table().strangers.leave_oldest().into_iter().for_each(close);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(closer: Closer) {
    // It may have ended just now.
    let _ = closer.send(());
}

impl Seat {
    /// Whoever is connected has proved the secret.
    pub(super) fn has_proved(&self) {
        drop(self.connections.table().strangers.leave(self.number));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        table.count -= 1;
        drop(table.strangers.leave(self.number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn connections(total: usize, strangers: usize) -> Arc<Connections> {
        let authentication = Duration::from_secs(10);
        Connections::new(ConnectionLimits {
            total,
            strangers,
            strangers_per_address: strangers,
            authentication,
        })
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn strangers_make_room_and_who_has_the_secret_does_not() {
        let connections = connections(10, 2);
        let (first, mut first_closed) = connections.admit(ADDRESS).unwrap();
        first.has_proved();
        assert_eq!(first_closed.try_recv(), Err(TryRecvError::Closed));
        let mut all: Vec<_> = (0..5).map(|_| connections.admit(ADDRESS).unwrap()).collect();
        let closed: Vec<bool> = all.iter_mut().map(|(_, closed)| closed.try_recv().is_ok()).collect();
        assert_eq!(closed, [true, true, true, false, false]);
    }

    #[test]
    fn a_full_server_closes_strangers_and_then_refuses() {
        let connections = connections(3, 3);
        let seats: Vec<_> = (0..2).map(|_| connections.admit(ADDRESS).unwrap().0).collect();
        seats.iter().for_each(|seat| seat.has_proved());
        let (stranger, mut closed) = connections.admit(ADDRESS).unwrap();
        let (third, _) = connections.admit(ADDRESS).unwrap();
        assert_eq!(closed.try_recv(), Ok(()));
        drop(stranger);
        third.has_proved();
        assert!(connections.admit(ADDRESS).is_none());
        drop(seats);
        assert!(connections.admit(ADDRESS).is_some());
    }
}
