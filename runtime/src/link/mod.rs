//! What the driver of a job and the processes of its workers say to each other, and how it gets there.
//!
//! The driver sends a process commands: which epoch to end, which one is complete, which partitions it reads, when to leave
//! ([`Command`]). A process reports how far its workers are ([`Report`]). Both travel as messages with the attempt on them,
//! and nothing else connects the two sides: a worker sees of the driver what its process has received
//! ([`Instructions`]), and not what the driver has decided since.
//!
//! What a link promises, and what it does not:
//!
//! - Messages of one sender arrive in the order in which they were sent. After a broken connection the sender does not know
//!   what has arrived and sends the last ones again, so a message may come twice, and an old one behind a newer one.
//! - Messages of different senders, and the two directions, arrive in any order.
//! - Several may arrive at once. Two triggers that do are two epochs to end.
//! - A message of another attempt may arrive. It is dropped and counted, whatever it says.
//!
//! So every message says a whole fact (an epoch, a list of partitions) and no difference to the message before, and to take
//! it twice is to take it once.
//!
//! Not here: what an acknowledgement counts for (the control brain's), the order of barriers between workers (timely's
//! frontiers'), and links that lose messages for good: a connection that stays broken is the end of the attempt. A link that
//! delays, repeats and reorders whatever it may is [`crate::testing`]'s.

mod direct;
mod driver_handle;
mod instructions;
mod message;

#[cfg(test)]
mod tests;

pub(crate) use direct::Direct;
pub(crate) use driver_handle::{Beginning, DriverHandle};
pub(crate) use instructions::Instructions;
pub(crate) use message::{Command, Report, ToDriver, ToProcess};

/// Takes the messages that arrive: one, or several that came together, in their order.
pub(crate) type Inbox<M> = Box<dyn Fn(Vec<M>) + Send + Sync>;

/// The sending end of a connection. A message is on its way when the call returns; whether it has arrived nobody knows.
pub(crate) type Connection<M> = Box<dyn Fn(M) + Send + Sync>;

/// Makes the connections between a driver and the processes of one attempt.
pub(crate) trait Link: Send + Sync {
    /// For how many processes the workers of this one are to be taken. Each has a connection of its own, and receives
    /// messages at other times than the others.
    fn processes(&self, workers: usize) -> usize;

    /// A connection to a process.
    fn to_process(&self, inbox: Inbox<ToProcess>) -> Connection<ToProcess>;

    /// A connection to the driver.
    fn to_driver(&self, inbox: Inbox<ToDriver>) -> Connection<ToDriver>;
}
