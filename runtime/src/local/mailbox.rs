//! What the driver of a job in one process waits for.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::link::{Inbox, ToDriver};
use tidegate_protocol::Error;

/// Something that reaches the driver.
pub(crate) enum Event {
    /// A message of the job's process.
    Message(ToDriver),
    /// A stop with a final snapshot was requested.
    StopRequested,
    /// The job cannot go on; a test ends a run as a crash would.
    Failed(Error),
}

/// The queue of events for the driver, from the process or from the program that runs the job.
pub(crate) struct Mailbox {
    pub(crate) sender: Sender<Event>,
    pub(crate) receiver: Receiver<Event>,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }

    /// The receiving end of the process's connection.
    pub(crate) fn inbox(&self) -> Inbox<ToDriver> {
        let sender = self.sender.clone();
        Box::new(move |messages| {
            for message in messages {
                // If the driver is gone, the attempt has ended.
                drop(sender.send(Event::Message(message)));
            }
        })
    }
}
