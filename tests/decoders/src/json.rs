//! What is written as JSON: messages between job process, taskmanager and jobmanager, bodies of the REST interface, manifests
//! and plans.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tidegate_protocol::link::{Command, Report, ToDriver, ToProcess};
use tidegate_protocol::manifest::{
    FORMAT_VERSION, FileRef, OperatorEntry, OperatorSnapshot, PartitionSnapshot, SlotSnapshot, Staged,
    StateType,
};
use tidegate_protocol::plan::{PLAN_VERSION, SourcePlan};
use tidegate_protocol::process::{Begin, FromJobProcess, Preparation, ToJobProcess};
use tidegate_protocol::taskmanager::{
    FromTaskManager, HowEnded, ProcessId, Program, Registration, RunningProcess, ToTaskManager,
};
use tidegate_protocol::why::{
    AwaitedByProcess, HottestKeyGroup, KeyedLoad, PartitionProgress, PartitionState, PassedOn, ProcessAnswer,
    ProcessWhy, SaidByProcess, SaidByTaskManager,
};
use tidegate_protocol::{Attempt, Epoch, Error, JobId, KeyGroups, Manifest, Plan, Slot, TaskManagerId};
use tidegate_rest::cluster::{Overview, TaskManagers};
use tidegate_rest::executables::{CheckReply, CheckRequest, Executable, PlanRequest, RunReply, RunRequest};
use tidegate_rest::jobs::{
    Checkpoints, JobDetails, JobFailures, Jobs, Logs, Operation, ResourceRequirements, SavepointRequest,
    StopRequest, Triggered,
};
use tidegate_rest::why::Why;
use tidegate_rest::{Challenge, Failure};

type Seeds = Vec<(&'static str, Vec<u8>)>;

const PROCESS: ProcessId = ProcessId { job: JobId([7; 16]), attempt: Attempt(2), first: Slot(1) };

/// A value, if the bytes are one; it is the same after it was written and read.
fn value<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = encoded(&value);
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(show(&encoded(&again)), show(&written), "a value changes when it is written and read");
    Some(value)
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what was read can be written")
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A line of the local socket between a job process and its taskmanager. What a process says is passed on, so the jobmanager
/// must be able to read it, too.
pub fn process(bytes: &[u8]) {
    value::<ToJobProcess>(bytes);
    value::<FromJobProcess>(bytes);
    value::<ProcessAnswer>(bytes);
    let passed_on = match SaidByProcess::from_json(bytes) {
        Ok(SaidByProcess::Message(message)) => {
            encoded(&FromTaskManager::FromProcess { process: PROCESS, message: Box::new(message) })
        }
        Ok(SaidByProcess::Answer(answer)) => encoded(&PassedOn { process: PROCESS, answer }),
        Err(_) => return,
    };
    let read = SaidByTaskManager::from_json(&show(&passed_on));
    assert!(read.is_ok(), "the jobmanager cannot read what is passed on: {}", show(&passed_on));
}

/// Such lines.
pub fn processes() -> Seeds {
    let command = |command| encoded(&ToJobProcess::Command(ToProcess { attempt: Attempt(2), command }));
    let report = |report| encoded(&FromJobProcess::Report(ToDriver { attempt: Attempt(2), report }));
    let addresses = vec!["host-1:4711".to_owned(), "[::1]:4712".to_owned()];
    let assigned = [("in".to_owned(), vec![vec!["part-0".to_owned()], Vec::new()])].into();
    let partitions: BTreeMap<_, _> = [("in".to_owned(), vec!["part-0".to_owned()])].into();
    let acked = Report::Acked { slot: Slot(1), epoch: Epoch(4), part: Box::new(part()) };
    vec![
        ("prepare", encoded(&ToJobProcess::Prepare(Box::new(preparation())))),
        ("begin", encoded(&ToJobProcess::Begin(Box::new(Begin { addresses, assigned })))),
        ("trigger", command(Command::Trigger { epoch: Epoch(3), last: true })),
        ("publish", command(Command::Publish(Epoch(3)))),
        ("why", encoded(&ToJobProcess::Why { request: 7 })),
        ("prepared", encoded(&FromJobProcess::Prepared { partitions })),
        ("acked", report(acked)),
        ("failed", report(Report::Failed(Error::job("the step 'map' has panicked")))),
        ("nested", nested(126)),
        ("note", encoded(&FromJobProcess::Note { warning: true, text: "slow".to_owned() })),
        ("answer", encoded(&answer())),
    ]
}

/// A report whose JSON is nested so deep. What is passed on is nested deeper, and serde_json reads 127 levels.
fn nested(levels: usize) -> Vec<u8> {
    let outer = br#"{"report":{"attempt":2,"report":{"acked":{"slot":1,"epoch":4,"part":{"store":{},"operators":{"in":
        {"watermark":null,"counters":{},"partitions":{},"staged":[],"extra":@}}}}}}}"#;
    let inner = format!("{}{}", "[".repeat(levels - 7), "]".repeat(levels - 7));
    String::from_utf8_lossy(outer).replace('\n', "").replace('@', &inner).into_bytes()
}

/// A message of the WebSocket between a taskmanager and the jobmanager.
pub fn taskmanager(bytes: &[u8]) {
    value::<ToTaskManager>(bytes);
    value::<FromTaskManager>(bytes);
    value::<PassedOn>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = SaidByTaskManager::from_json(text);
    }
}

/// Such messages.
pub fn taskmanagers() -> Seeds {
    let program = || Program {
        name: "./job".to_owned(),
        sha256: "00".repeat(32),
        path: "/mnt/executables/00".to_owned(),
        arguments: vec!["--limit".to_owned(), "5".to_owned()],
        directory: Some("/home".to_owned()),
    };
    let running = RunningProcess {
        process: PROCESS,
        pid: 9,
        workers: 1,
        ready: vec![Slot(1)],
        ended: Vec::new(),
        triggered: Epoch(3),
    };
    let registration = Registration {
        id: TaskManagerId("tm-1".to_owned()),
        pid: 8,
        slots: 2,
        address: "host-1".to_owned(),
        processes: vec![running],
    };
    let preparation = Box::new(preparation());
    vec![
        ("register", encoded(&FromTaskManager::Register(Box::new(registration)))),
        ("describe", encoded(&ToTaskManager::Describe { request: 1, program: program() })),
        ("described", encoded(&FromTaskManager::Described { request: 1, result: Ok(Box::new(a_plan())) })),
        ("launch", encoded(&ToTaskManager::Launch { program: program(), preparation })),
        ("kill", encoded(&ToTaskManager::Kill { job: PROCESS.job, attempt: PROCESS.attempt })),
        (
            "exited",
            encoded(&FromTaskManager::Exited { process: PROCESS, how: HowEnded::by_itself("has exited") }),
        ),
        ("passed-on", encoded(&PassedOn { process: PROCESS, answer: answer() })),
    ]
}

/// A body of the REST interface: of a request, or of an answer.
pub fn rest(bytes: &[u8]) {
    value::<PlanRequest>(bytes);
    value::<CheckRequest>(bytes);
    value::<RunRequest>(bytes);
    value::<SavepointRequest>(bytes);
    value::<StopRequest>(bytes);
    value::<ResourceRequirements>(bytes);
    value::<Challenge>(bytes);
    value::<Failure>(bytes);
    value::<Overview>(bytes);
    value::<TaskManagers>(bytes);
    value::<Executable>(bytes);
    value::<CheckReply>(bytes);
    value::<RunReply>(bytes);
    value::<Jobs>(bytes);
    value::<JobDetails>(bytes);
    value::<JobFailures>(bytes);
    value::<Checkpoints>(bytes);
    value::<Triggered>(bytes);
    value::<Operation>(bytes);
    value::<Logs>(bytes);
    value::<Why>(bytes);
}

/// Such bodies.
pub fn rests() -> Seeds {
    let job = JobId([7; 16]);
    let arguments = ["--limit", "5"];
    let run = json!({"jobid": job, "executable": "./job", "directory": "/home", "arguments": arguments,
        "parallelism": 2, "snapshot": "/mnt/sp", "allow-non-restored-state": true,
        "settings": {"checkpoint.interval": "1s"}, "name": "orders"});
    let details = json!({"jid": job, "name": "orders", "state": "RUNNING", "start-time": 1, "end-time": null,
        "duration": 2, "parallelism": 2, "attempt": 1, "max-parallelism": 128, "waits-for": null,
        "failure": {"attempt": 1, "cause": "a panic", "timestamp": 5}, "restarts": 0,
        "processes": [{"taskmanager": "tm-1", "pid": 9, "slots": [0, 1]}],
        "checkpoints": {"completed": 3, "aborted": 0, "last-epoch": 3}, "executable": "00", "arguments": arguments,
        "checkpoint-directory": "/mnt/jobs/07"});
    let place = json!({"worker": 0, "taskmanager": "tm-1", "host": "host-1"});
    let why = json!({"jid": job, "name": "orders", "state": "RUNNING", "attempt": 1, "timestamp": 5, "waits-for": null,
        "silent": [], "watermark": null, "checkpoint": null, "partitions": [],
        "operators": [{"operator": "time", "worker": 0, "taskmanager": "tm-1", "host": "host-1", "watermark": 5,
            "idle": false, "passed": true}]});
    let check = json!({"arguments": arguments, "snapshot": "/mnt/sp", "executable": null, "directory": null});
    vec![
        ("run", encoded(&run)),
        ("check", encoded(&check)),
        ("stop", encoded(&json!({"drain": true, "target-directory": "/mnt/sp"}))),
        ("rescale", encoded(&json!({"parallelism": 4}))),
        ("failure", encoded(&json!({"error": "there is no job", "not_leading": true}))),
        ("details", encoded(&details)),
        ("why", encoded(&why)),
        ("place", encoded(&place)),
    ]
}

/// A manifest: as a file, and the JSON of one whose checksum is right.
pub fn manifest(bytes: &[u8]) {
    let checked = [checksum(bytes).as_bytes(), b"\n", bytes, b"\n"].concat();
    for bytes in [bytes, &checked] {
        if let Ok(manifest) = Manifest::from_bytes(bytes) {
            let written = manifest.to_bytes();
            // One of an older version is read once only, and written as it is then.
            let again = Manifest::from_bytes(&written).expect("what was written can be read");
            assert_eq!(
                show(&again.to_bytes()),
                show(&written),
                "a manifest changes when it is written and read"
            );
            let _ = again.differing_watermark();
        }
    }
}

fn checksum(json: &[u8]) -> String {
    format!("tidegate-manifest crc32={:08x}", crc32fast::hash(json))
}

/// A manifest as a file, and without its checksum.
pub fn manifests() -> Seeds {
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        job: "orders".to_owned(),
        attempt: Attempt(2),
        epoch: Epoch(4),
        finished: false,
        checkpoints: 4,
        completed_at_ms: 1_700_000_000_000,
        parallelism: 2,
        key_groups: KeyGroups::default(),
        arguments: [("limit".to_owned(), vec!["5".to_owned()])].into(),
        operators: a_plan().operators,
        slots: [(Slot(0), part()), (Slot(1), SlotSnapshot::default())].into(),
    };
    vec![("file", manifest.to_bytes()), ("json", encoded(&manifest))]
}

/// A plan.
pub fn plan(bytes: &[u8]) {
    if let Some(plan) = value::<Plan>(bytes) {
        let _ = plan.sinks().count();
    }
}

/// A plan as a job prints it.
pub fn plans() -> Seeds {
    vec![("orders", encoded(&a_plan()))]
}

fn a_plan() -> Plan {
    let state = StateType { name: "u64".to_owned(), fingerprint: "u64".to_owned() };
    let operator = |kind: &str, uri: Option<&str>| OperatorEntry {
        kind: kind.to_owned(),
        store_id: 1,
        state: Some(state.clone()),
        uri: uri.map(str::to_owned),
    };
    let operators = [("in", operator("source", Some("/in"))), ("out", operator("sink", Some("/out")))];
    let source = SourcePlan { bounded: true, partitions: vec!["part-0".to_owned()] };
    Plan {
        plan_version: PLAN_VERSION,
        job: "orders".to_owned(),
        max_parallelism: 128,
        arguments: [("limit".to_owned(), vec!["5".to_owned()])].into(),
        operators: operators.map(|(uid, operator)| (uid.to_owned(), operator)).into(),
        sources: [("in".to_owned(), source)].into(),
        dataflow: vec!["the source 'in'".to_owned()],
        ..Plan::default()
    }
}

fn part() -> SlotSnapshot {
    let file = FileRef { path: "files/000007.sst".to_owned(), bytes: 4_096, crc32: 7 };
    let partition =
        PartitionSnapshot { position: json!({"offset": 9}), watermark: Some(json!([1.5, -2])), ended: false };
    let staged = Staged {
        slot: Slot(1),
        epoch: Epoch(4),
        records: 10,
        place: json!({"name": "part-1-4"}),
        file: Some(FileRef { path: "/out/.part-1-4".to_owned(), ..file.clone() }),
    };
    let operator = OperatorSnapshot {
        watermark: Some(-5),
        counters: [("rows_in".to_owned(), 100)].into(),
        partitions: [("part-0".to_owned(), partition)].into(),
        staged: vec![staged],
        extra: json!(null),
    };
    SlotSnapshot {
        store: [("000007.sst".to_owned(), file)].into(),
        operators: [("in".to_owned(), operator)].into(),
    }
}

fn preparation() -> Preparation {
    Preparation {
        job: PROCESS.job,
        attempt: PROCESS.attempt,
        parallelism: 2,
        first: PROCESS.first,
        workers: 1,
        key_groups: KeyGroups::default(),
        memory: Some(1 << 28),
        store: "/mnt/jobs/07".to_owned(),
        working: "/var/lib/tidegate/07".into(),
        copies: "/var/lib/tidegate/copies".into(),
        restored: Some(Epoch(3)),
        published: Epoch(3),
        first_epoch: Epoch(4),
        store_ids: [("in".to_owned(), 1)].into(),
        drains: false,
        secret: "0f".repeat(32),
        listen: "127.0.0.1".to_owned(),
        silence_ms: 5_000,
        tls: None,
    }
}

fn answer() -> ProcessAnswer {
    let partition = PartitionProgress {
        source: "in".to_owned(),
        partition: "part-0".to_owned(),
        worker: Slot(1),
        event_time: Some("time".to_owned()),
        watermark_ms: Some(5),
        state: PartitionState::Idle,
        quiet_since_ms: Some(6),
        position: Some(json!({"offset": 9})),
        records: 8,
    };
    let awaited = AwaitedByProcess { what: "the brokers a:9092".to_owned(), for_ms: 5_000 };
    let keyed = KeyedLoad {
        operator: "sum".to_owned(),
        worker: Slot(1),
        records: 8,
        key_groups: 64,
        hottest: Some(HottestKeyGroup { number: 17, percent: 60 }),
    };
    let why = ProcessWhy {
        partitions: vec![partition],
        awaited: vec![awaited],
        keyed: vec![keyed],
        ..ProcessWhy::default()
    };
    ProcessAnswer::Why { request: 7, why: Box::new(why) }
}
