//! The messages between the driver of a job and the processes of its workers, and how they are delivered.
//!
//! The driver sends a process commands: which epoch to end, which one is complete, which partitions it reads, when to end
//! ([`Command`]). A process reports how far its workers are ([`Report`]). Both are sent as messages that carry the attempt,
//! and nothing else connects the two sides: a worker knows what its process has received from the driver
//! ([`Instructions`]), and not what the driver has decided since.
//!
//! What a link promises, and what it does not:
//!
//! - Messages of one sender arrive in the order in which they were sent. After a broken connection the sender does not know
//!   what has arrived and sends the last messages again, so a message may arrive twice, and an old one after a newer one.
//! - Messages of different senders, and the two directions, arrive in any order.
//! - Several may arrive at once. Two triggers that do are two epochs to end.
//! - A message of another attempt may arrive. It is dropped and counted, whatever its content is.
//!
//! So every message states a complete fact (an epoch, a list of partitions) and not a difference to the previous message,
//! and receiving a message is idempotent.
//!
//! Not here: whether an acknowledgement counts (the control brain), the order of barriers between workers (the frontiers of
//! timely), and links that lose messages permanently: a connection that stays broken ends the attempt. [`crate::testing`]
//! has a link that delays, repeats and reorders messages as far as this contract allows.

mod direct;
mod driver_handle;
mod instructions;

#[cfg(test)]
mod tests;

pub(crate) use direct::Direct;
pub(crate) use driver_handle::{Beginning, DriverHandle};
pub(crate) use instructions::Instructions;
pub(crate) use tidegate_protocol::link::{Command, Report, ToDriver, ToProcess};

/// Takes the messages that arrive: one, or several that came together, in their order.
pub(crate) type Inbox<M> = Box<dyn Fn(Vec<M>) + Send + Sync>;

/// The sending end of a connection. When the call returns, the message is sent, but it has not necessarily arrived.
pub(crate) type Connection<M> = Box<dyn Fn(M) + Send + Sync>;

/// Makes the connections between a driver and the processes of one attempt.
pub(crate) trait Link: Send + Sync {
    /// The number of processes that the workers of a job are divided into. Each of them has its own connection.
    fn processes(&self, workers: usize) -> usize;

    /// A connection to a process.
    fn to_process(&self, inbox: Inbox<ToProcess>) -> Connection<ToProcess>;

    /// A connection to the driver.
    fn to_driver(&self, inbox: Inbox<ToDriver>) -> Connection<ToDriver>;
}
