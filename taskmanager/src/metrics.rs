//! The metrics of the taskmanager and of its job processes, over HTTP.
//!
//! The thread that serves them asks the event loop, which asks the processes; what comes back is put together here, on the
//! thread of the server.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tidegate_exposition::{Exposition, Family};
use tidegate_protocol::{ErrorContext, Result};
use tidegate_transport::Acceptor;

use crate::runner::Incoming;
use crate::supervisor::{Gathered, Own};

/// How long the event loop may take. It gives processes a second.
const PATIENCE: Duration = Duration::from_secs(5);

const SLOTS: Family =
    Family::gauge("tidegate_taskmanager_slots", "The number of workers that there is room for.");
const PROCESSES: Family = Family::gauge("tidegate_taskmanager_processes", "Job processes that run.");
const SILENT: Family = Family::gauge(
    "tidegate_taskmanager_processes_silent",
    "Job processes that have not answered this request for their metrics within a second.",
);
const KILLED: Family = Family::counter(
    "tidegate_taskmanager_processes_killed_total",
    "Job processes that were killed because they did not answer or did not end.",
);
const IGNORED: Family = Family::counter(
    "tidegate_taskmanager_messages_ignored_total",
    "Messages of the jobmanager for job processes that did not run.",
);
const CONNECTED: Family = Family::gauge(
    "tidegate_taskmanager_connected",
    "1 if a jobmanager has accepted the registration of the taskmanager.",
);
const REFUSED: Family = Family::gauge(
    "tidegate_taskmanager_metrics_refused",
    "Lines of this answer's processes that were left out because they are not valid.",
);

/// Starts to serve.
pub(crate) fn serve(address: SocketAddr, tls: Option<Acceptor>, events: SyncSender<Incoming>) -> Result<()> {
    let listener = TcpListener::bind(address).context(|| {
        format!("cannot serve metrics at {address} (--metrics takes an address of this host that is free)")
    })?;
    let address = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tidegate_exposition::serve(listener, tls, move || {
        let (answer, answered) = sync_channel(1);
        // Without an event loop the taskmanager is about to end.
        let _ = events.send(Incoming::Metrics(answer));
        answered.recv_timeout(PATIENCE).map_or_else(|_| String::new(), |gathered| text(&gathered))
    })?;
    tracing::info!(target: "tidegate", "metrics are served at {scheme}://{address}/metrics, to everybody who can connect");
    Ok(())
}

/// One text: what the processes have answered, with their job and attempt, and the taskmanager's own numbers.
fn text(gathered: &Gathered) -> String {
    let Gathered { texts, silent, own } = gathered;
    let Own { slots, processes, killed, ignored, is_connected } = own;
    let mut all = Exposition::default();
    all.add(SLOTS, &[], f64::from(*slots));
    all.add(PROCESSES, &[], *processes as f64);
    all.add(SILENT, &[], *silent as f64);
    all.add(KILLED, &[], *killed as f64);
    all.add(IGNORED, &[], *ignored as f64);
    all.add(CONNECTED, &[], f64::from(u8::from(*is_connected)));
    let mut refused = 0;
    for (process, text) in texts {
        let (job, attempt, first) =
            (process.job.to_string(), process.attempt.to_string(), process.first.to_string());
        // What belongs to no worker would be the same for all processes of an attempt.
        let mark = Some(("process", &*first));
        refused += all.merge_marked(text, &[("job_id", &job), ("attempt", &attempt)], mark);
    }
    all.add(REFUSED, &[], refused as f64);
    all.to_string()
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::taskmanager::ProcessId;
    use tidegate_protocol::{Attempt, JobId, Slot};

    use super::*;

    #[test]
    fn samples_have_their_job_and_attempt_and_are_beside_those_of_the_taskmanager() {
        let mut gathered = Gathered { silent: 1, ..Gathered::default() };
        for first in [0, 2] {
            let process = ProcessId { job: JobId([1; 16]), attempt: Attempt(3), first: Slot(first) };
            let text =
                format!("# HELP a Help.\n# TYPE a gauge\na{{job=\"j\",worker=\"{first}\"}} 5\nnonsense\n");
            gathered.texts.insert(process, text);
        }
        let text = text(&gathered);
        let id = "01".repeat(16);
        let expected = format!(
            "# HELP a Help.\n# TYPE a gauge\na{{job=\"j\",worker=\"0\",job_id=\"{id}\",attempt=\"3\"}} 5\n\
             a{{job=\"j\",worker=\"2\",job_id=\"{id}\",attempt=\"3\"}} 5\n"
        );
        assert!(text.contains(&expected), "{text}");
        for sample in ["processes_silent 1", "metrics_refused 2", "connected 0"] {
            assert!(text.contains(&format!("\ntidegate_taskmanager_{sample}\n")), "{text}");
        }
    }
}
