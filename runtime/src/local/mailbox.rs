//! What the driver of a job in one process waits for.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::checkpoint::publishers::PublisherReport;
use crate::link::{Inbox, ToDriver};
use tidegate_protocol::Error;

/// Something that reaches the driver.
pub(crate) enum Event {
    /// A message of the job's process.
    Message(ToDriver),
    /// Somebody asked for a stop with a final snapshot.
    StopRequested,
    /// The partitions that a source has now.
    Partitions { source: String, names: Vec<String> },
    /// A publisher has published an epoch, or cannot.
    Published(PublisherReport),
    /// The job cannot go on; a test ends a run as a crash would.
    Failed(Error),
}

/// Where the driver finds what was sent to it, be it by the process or by whoever runs the job.
pub(crate) struct Mailbox {
    pub(crate) sender: Sender<Event>,
    pub(crate) receiver: Receiver<Event>,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }

    /// Where the process's connection ends.
    pub(crate) fn inbox(&self) -> Inbox<ToDriver> {
        let sender = self.sender.clone();
        Box::new(move |messages| {
            for message in messages {
                // A driver that is gone has ended the process for everybody.
                drop(sender.send(Event::Message(message)));
            }
        })
    }
}
