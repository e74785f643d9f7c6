//! The link of a job in one process: driver and workers are threads of one process.

use super::{Connection, Inbox, Link, ToDriver, ToProcess};

/// Delivers a message while it is sent, on the thread of the sender.
pub(crate) struct Direct;

impl Link for Direct {
    fn processes(&self, _workers: usize) -> usize {
        1
    }

    fn to_process(&self, inbox: Inbox<ToProcess>) -> Connection<ToProcess> {
        Box::new(move |message| inbox(vec![message]))
    }

    fn to_driver(&self, inbox: Inbox<ToDriver>) -> Connection<ToDriver> {
        Box::new(move |message| inbox(vec![message]))
    }
}
