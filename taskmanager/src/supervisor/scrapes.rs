//! Requests for the metrics of all processes that are being answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_protocol::taskmanager::ProcessId;

/// How long processes may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the metrics, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// What processes have answered.
    pub texts: BTreeMap<ProcessId, String>,
    /// Processes that have not answered in time, or have ended meanwhile.
    pub silent: usize,
    /// The numbers of the taskmanager itself.
    pub own: Own,
}

/// The numbers of the taskmanager itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The number of workers that there is room for.
    pub slots: u32,
    /// Processes that run.
    pub processes: usize,
    /// Processes that were killed because they did not answer, since the start.
    pub killed: u64,
    /// Messages for processes that did not run, since the start.
    pub ignored: u64,
    /// Whether a jobmanager has accepted the registration.
    pub is_connected: bool,
}

/// A request, until it is answered.
#[derive(Debug)]
struct Scrape {
    request: u64,
    until: Duration,
    missing: BTreeSet<ProcessId>,
    gathered: Gathered,
}

#[derive(Debug, Default)]
pub(super) struct Scrapes(Vec<Scrape>);

impl Scrapes {
    /// A request has come; these processes are asked.
    pub(super) fn begin(&mut self, now: Duration, request: u64, asked: BTreeSet<ProcessId>) {
        let until = now + PATIENCE;
        self.0.push(Scrape { request, until, missing: asked, gathered: Gathered::default() });
    }

    /// A process has answered: that counts for all requests.
    pub(super) fn answered(&mut self, process: ProcessId, text: &str) {
        for scrape in &mut self.0 {
            if scrape.missing.remove(&process) {
                scrape.gathered.texts.insert(process, text.to_owned());
            }
        }
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, process: ProcessId) {
        for scrape in &mut self.0 {
            scrape.gathered.silent += usize::from(scrape.missing.remove(&process));
        }
    }

    /// The requests whose answers are complete, or have to do as they are.
    pub(super) fn take_done(&mut self, now: Duration) -> Vec<(u64, Gathered)> {
        let is_done = |scrape: &mut Scrape| scrape.missing.is_empty() || now >= scrape.until;
        let done = self.0.extract_if(.., is_done);
        done.map(|mut scrape| {
            scrape.gathered.silent += scrape.missing.len();
            (scrape.request, scrape.gathered)
        })
        .collect()
    }
}
