//! Connections that have not proved yet that they belong to the cluster.
//!
//! There may be so many of them, and so many of one address. The next one is accepted all the same, and the oldest is closed:
//! whoever has the secret has proved it after a few milliseconds, and who opens connections to say nothing loses them first.
//! An address that opens many loses its own.
//!
//! Not here: sockets. The caller closes what it is given back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// How many strangers there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All of them; at least 1.
    pub total: usize,
    /// Those of one address; of IPv6, those of one network of 64 bits, which is what one host has.
    pub per_address: usize,
}

/// The connections of strangers, each with what is needed to close it.
#[derive(Debug)]
pub struct Strangers<C> {
    limits: Limits,
    next: u64,
    /// From the oldest to the newest.
    all: BTreeMap<u64, (IpAddr, C)>,
}

impl<C> Strangers<C> {
    /// Nobody is there yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, next: 0, all: BTreeMap::new() }
    }

    /// A connection has come. Returns its number, and a connection that must be closed to make room.
    pub fn enter(&mut self, address: IpAddr, close: C) -> (u64, Option<C>) {
        let address = host(address);
        let mut of_address = self.all.iter().filter(|(_, (other, _))| *other == address);
        let oldest_of_address = of_address.next().map(|(number, _)| *number);
        let count = usize::from(oldest_of_address.is_some()) + of_address.count();
        let too_many = if count >= self.limits.per_address {
            oldest_of_address
        } else if self.all.len() >= self.limits.total {
            self.all.keys().next().copied()
        } else {
            None
        };
        let closed = too_many.and_then(|number| self.leave(number));
        self.next += 1;
        self.all.insert(self.next, (address, close));
        (self.next, closed)
    }

    /// A connection is no stranger's any more, or over. None if it was closed before.
    pub fn leave(&mut self, number: u64) -> Option<C> {
        self.all.remove(&number).map(|(_, close)| close)
    }

    /// The oldest connection, to be closed because something else is short.
    pub fn leave_oldest(&mut self) -> Option<C> {
        self.all.pop_first().map(|(_, (_, close))| close)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// What one host cannot change about its address.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_makes_room_and_an_address_with_many_loses_its_own() {
        let mut strangers = Strangers::new(Limits { total: 4, per_address: 3 });
        let mut enter = |from: &str, name| strangers.enter(address(from), name).1;
        assert_eq!(enter("10.0.0.1", "a"), None);
        assert_eq!(enter("10.0.0.2", "b"), None);
        assert_eq!(enter("10.0.0.2", "c"), None);
        assert_eq!(enter("::ffff:10.0.0.2", "d"), None);
        assert_eq!(enter("10.0.0.2", "e"), Some("b"), "not that of another address, which is older");
        assert_eq!(enter("10.0.0.3", "f"), Some("a"));
        assert_eq!(strangers.len(), 4);
    }

    #[test]
    fn who_has_left_makes_room_and_an_ipv6_host_has_one_network() {
        let mut strangers = Strangers::new(Limits { total: 10, per_address: 2 });
        let (first, _) = strangers.enter(address("2001:db8::1"), 1);
        assert_eq!(strangers.enter(address("2001:db8::2"), 2).1, None);
        assert_eq!(strangers.leave(first), Some(1));
        assert_eq!(strangers.leave(first), None);
        assert_eq!(strangers.enter(address("2001:db8::3"), 3).1, None);
        assert_eq!(strangers.enter(address("2001:db8::4"), 4).1, Some(2));
        assert_eq!(strangers.enter(address("2001:db8:0:1::1"), 5).1, None);
        assert_eq!(strangers.leave_oldest(), Some(3));
    }
}
