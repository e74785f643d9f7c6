//! A taskmanager without processes: it answers for them.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use tidegate_access::Request;
use tidegate_protocol::link::{Command, Report, ToDriver, ToProcess};
use tidegate_protocol::manifest::{OperatorEntry, SlotSnapshot};
use tidegate_protocol::plan::{PLAN_VERSION, SourcePlan};
use tidegate_protocol::process::{FromJobProcess, Preparation, ToJobProcess};
use tidegate_protocol::taskmanager::{FromTaskManager, HowEnded, ProcessId, Registration, ToTaskManager};
use tidegate_protocol::why::{
    ChainProgress, Doing, OperatorWatermark, PartitionProgress, PartitionState, PassedOn, ProcessAnswer,
    ProcessWhy,
};
use tidegate_protocol::{Plan, Slot, TaskManagerId};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;

use super::running::Running;

type Socket = WebSocketStream<TcpStream>;

/// How long a taskmanager stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// Until the server ends.
    Always,
    /// Until it is asked for a log.
    UntilAsked,
}

/// Connects a taskmanager with four slots.
pub(super) fn connect(server: &Running, id: &'static str, stays: Stays) {
    let target = "/v1/taskmanagers/link";
    let signature = server.sign(&Request::of("GET", target, b""));
    let uri = format!("ws://{}{target}", server.address).parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_header("Authorization", signature);
    let socket = server.runtime.block_on(async {
        let stream = TcpStream::connect(server.address).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    });
    server.runtime.spawn(TaskManager { id, stays, socket, running: BTreeMap::new() }.run());
}

struct TaskManager {
    id: &'static str,
    stays: Stays,
    socket: Socket,
    /// The workers of every process.
    running: BTreeMap<ProcessId, Vec<Slot>>,
}

impl TaskManager {
    async fn run(mut self) {
        let registration = Registration {
            id: TaskManagerId(self.id.to_owned()),
            pid: 1,
            slots: 4,
            address: "host-1".to_owned(),
            processes: Vec::new(),
        };
        self.tell(&FromTaskManager::Register(Box::new(registration))).await;
        while let Some(Ok(message)) = self.socket.next().await {
            let Message::Text(text) = message else { continue };
            let message = serde_json::from_str(&text).unwrap();
            if self.stays == Stays::UntilAsked && matches!(message, ToTaskManager::Logs { .. }) {
                return;
            }
            self.take(message).await;
        }
    }

    async fn tell(&mut self, message: &impl Serialize) {
        let text = serde_json::to_string(message).unwrap();
        // The server has ended before its test.
        let _ = self.socket.send(Message::Text(text.into())).await;
    }

    async fn take(&mut self, message: ToTaskManager) {
        match message {
            ToTaskManager::Describe { request, .. } => {
                self.tell(&FromTaskManager::Described { request, result: Ok(Box::new(plan())) }).await;
            }
            ToTaskManager::Launch { preparation, .. } => self.launch(&preparation).await,
            ToTaskManager::ToProcess { process, message } => self.pass_on(process, *message).await,
            ToTaskManager::Kill { job, attempt } => {
                let old = |id: &ProcessId| id.job == job && id.attempt <= attempt;
                let ended: Vec<_> = self.running.keys().copied().filter(old).collect();
                for process in ended {
                    self.running.remove(&process);
                    let how = HowEnded::from_outside("was ended by SIGKILL");
                    self.tell(&FromTaskManager::Exited { process, how }).await;
                }
            }
            ToTaskManager::Logs { request, .. } => {
                let text = "a line\n".to_owned();
                self.tell(&FromTaskManager::Logs { request, text, position: 7 }).await;
            }
            ToTaskManager::Registered { .. } | ToTaskManager::Ping => {}
        }
    }

    async fn launch(&mut self, preparation: &Preparation) {
        let Preparation { job, attempt, first, workers, .. } = *preparation;
        let process = ProcessId { job, attempt, first };
        self.running.insert(process, (first.0..first.0 + workers).map(Slot).collect());
        self.tell(&FromTaskManager::Started { process, pid: 4_711 }).await;
        self.said(process, FromJobProcess::Listening { port: 4_711 }).await;
        let partitions = plan().sources.into_iter().map(|(uid, source)| (uid, source.partitions)).collect();
        self.said(process, FromJobProcess::Prepared { partitions }).await;
    }

    async fn said(&mut self, process: ProcessId, message: FromJobProcess) {
        self.tell(&FromTaskManager::FromProcess { process, message: Box::new(message) }).await;
    }

    async fn pass_on(&mut self, process: ProcessId, message: ToJobProcess) {
        let slots = self.running.get(&process).cloned().unwrap_or_default();
        let report: fn(Slot, &Command) -> Option<Report> = match &message {
            ToJobProcess::Begin(_) => |slot, _| Some(Report::Ready(slot)),
            ToJobProcess::Command(_) => answer,
            ToJobProcess::Why { request } => {
                let why = Box::new(why(&slots));
                let answer = ProcessAnswer::Why { request: *request, why };
                return self.tell(&PassedOn { process, answer }).await;
            }
            _ => return,
        };
        let command = match message {
            ToJobProcess::Command(ToProcess { command, .. }) => command,
            _ => Command::StopReading,
        };
        for report in slots.into_iter().filter_map(|slot| report(slot, &command)) {
            let message = FromJobProcess::Report(ToDriver { attempt: process.attempt, report });
            self.said(process, message).await;
        }
    }
}

/// What a worker reports when it has done what it was told.
fn answer(slot: Slot, command: &Command) -> Option<Report> {
    match *command {
        Command::Trigger { epoch, .. } => {
            Some(Report::Acked { slot, epoch, part: Box::new(SlotSnapshot::default()) })
        }
        Command::Publish(epoch) => Some(Report::Published { slot, epoch }),
        Command::Abort => Some(Report::Done(slot)),
        _ => None,
    }
}

fn plan() -> Plan {
    let source = OperatorEntry { kind: "source".to_owned(), ..OperatorEntry::default() };
    let partitions = vec!["part-0".to_owned(), "part-1".to_owned()];
    Plan {
        plan_version: PLAN_VERSION,
        job: "orders".to_owned(),
        max_parallelism: 128,
        operators: [("in".to_owned(), source)].into(),
        sources: [("in".to_owned(), SourcePlan { bounded: false, partitions })].into(),
        dataflow: vec!["the source 'in'".to_owned()],
        ..Plan::default()
    }
}

/// What a process knows whose first worker reads a partition, and is processing a record.
fn why(slots: &[Slot]) -> ProcessWhy {
    let Some(worker) = slots.first().copied() else { return ProcessWhy::default() };
    let doing = Doing {
        step: "map".to_owned(),
        worker,
        record: "key 7".to_owned(),
        for_ms: None,
        waits_for_store: false,
    };
    let partition = PartitionProgress {
        source: "in".to_owned(),
        partition: format!("part-{}", worker.0),
        worker,
        event_time: Some("time".to_owned()),
        watermark_ms: Some(5),
        state: PartitionState::Active,
        quiet_since_ms: None,
        position: Some(serde_json::json!({"offset": 9})),
        records: 5,
    };
    let watermark = OperatorWatermark {
        operator: "time".to_owned(),
        worker,
        makes_watermarks: true,
        watermark_ms: Some(5),
    };
    let doing_now = Some(doing.clone());
    ProcessWhy {
        watermarks: vec![watermark],
        chains: vec![ChainProgress {
            operator: "in".to_owned(),
            worker,
            passed: Default::default(),
            doing: doing_now,
        }],
        partitions: vec![partition],
        beside: vec![doing],
        ..ProcessWhy::default()
    }
}
