use tidegate_protocol::why::{AwaitedByProcess, ChainProgress, OperatorWatermark, PartitionProgress};
use tidegate_protocol::{Attempt, Epoch, JobId, JobState};

use super::*;

fn partition(name: &str, worker: u32, watermark_ms: Option<i64>, state: PartitionState) -> PartitionProgress {
    PartitionProgress {
        source: "readings".to_owned(),
        partition: name.to_owned(),
        worker: Slot(worker),
        event_time: Some("time".to_owned()),
        watermark_ms,
        state,
        quiet_since_ms: None,
        position: None,
        records: 5,
    }
}

fn chain(operator: &str, worker: u32, passed: u64) -> ChainProgress {
    ChainProgress { operator: operator.to_owned(), worker: Slot(worker), passed: Epoch(passed), doing: None }
}

/// The answer of the process of one worker.
fn answer(worker: u32, watermark_ms: Option<i64>, partitions: Vec<PartitionProgress>) -> (Slot, ProcessWhy) {
    let watermark = |operator: &str, makes_watermarks| OperatorWatermark {
        operator: operator.to_owned(),
        worker: Slot(worker),
        makes_watermarks,
        watermark_ms,
    };
    let why = ProcessWhy {
        watermarks: vec![watermark("time", true), watermark("minutes", false)],
        chains: vec![chain("readings", worker, 4), chain("minutes", worker, 3)],
        partitions,
        ..ProcessWhy::default()
    };
    (Slot(worker), why)
}

fn seen(answers: Vec<(Slot, ProcessWhy)>) -> Seen {
    let process = |worker: u32| ProcessView {
        taskmanager: TaskManagerId(format!("tm-{worker}")),
        pid: Some(100 + worker),
        slots: vec![Slot(worker)],
    };
    let (job, attempt) = (JobId([1; 16]), Attempt(2));
    Seen {
        view: JobView {
            job,
            state: JobState::Running,
            restarts: 0,
            attempt,
            last_pause_ms: None,
            parallelism: 2,
            waits_for: None,
            failures: Vec::new(),
            processes: vec![process(0), process(1)],
            completed: 3,
            snapshot: None,
            aborted: 0,
            last_epoch: Some(Epoch(3)),
            in_flight: Some((Epoch(4), "pending".to_owned(), 700, vec![Slot(0), Slot(1)])),
            checkpoints: Vec::new(),
        },
        summary: JobSummary {
            jid: job,
            name: "orders".to_owned(),
            state: JobState::Running,
            start_time: 0,
            end_time: None,
            duration: 0,
            parallelism: 2,
            attempt: 2,
        },
        hosts: (0..2).map(|i| (TaskManagerId(format!("tm-{i}")), format!("host-{i}"))).collect(),
        answers: answers.into_iter().collect(),
    }
}

fn two(partitions: Vec<PartitionProgress>) -> Seen {
    seen(vec![answer(0, Some(40), Vec::new()), answer(1, Some(30), partitions)])
}

#[test]
fn the_active_partition_with_the_least_watermark_holds_event_time_back() {
    use PartitionState::{Active, Ended, Idle};
    let why = two(vec![
        partition("a", 1, Some(90), Active),
        partition("b", 1, Some(30), Active),
        partition("c", 1, Some(10), Idle),
        partition("d", 1, None, Ended),
    ])
    .explain(5);
    let watermark = why.watermark.unwrap();
    assert_eq!((&*watermark.operator, watermark.time, watermark.furthest), ("minutes", Some(30), Some(90)));
    assert_eq!((watermark.held_back_by, watermark.partitions.len()), (Holder::Partition, 1));
    let held_by = &watermark.partitions[0];
    let place = Place { worker: 1, taskmanager: "tm-1".to_owned(), host: "host-1".to_owned() };
    assert_eq!((&*held_by.partition, &held_by.place), ("b", &place));
    let idle: Vec<_> = why.operators.iter().map(|it| (&*it.operator, it.place.worker, it.idle)).collect();
    assert_eq!(idle, [("minutes", 0, false), ("minutes", 1, false), ("time", 0, true), ("time", 1, false)]);
    assert_eq!((why.partitions.len(), why.silent.len(), why.waits_for), (4, 0, None));
    // One that has had no record yet is behind all others.
    let why = two(vec![partition("a", 1, Some(90), Active), partition("b", 1, None, Active)]).explain(5);
    assert_eq!(why.watermark.unwrap().partitions[0].partition, "b");
    let why = two(vec![partition("a", 1, Some(90), Idle)]).explain(5);
    assert_eq!(why.watermark.unwrap().held_back_by, Holder::Nobody);
}

#[test]
fn a_paused_partition_is_not_what_holds_event_time_back() {
    use PartitionState::{Active, Paused};
    let seen =
        |watermark| two(vec![partition("a", 1, Some(90), Paused), partition("b", 1, watermark, Active)]);
    let watermark = seen(Some(30)).explain(5).watermark.unwrap();
    let names: Vec<_> = watermark.partitions.iter().map(|it| &*it.partition).collect();
    assert_eq!((names, watermark.furthest), (vec!["b"], Some(90)));
    // Not even if the answers are of different moments.
    assert_eq!(seen(Some(95)).explain(5).watermark.unwrap().partitions[0].partition, "b");
    // The operator of a worker whose partitions are all paused is not idle.
    let why = two(vec![partition("a", 1, Some(90), Paused)]).explain(5);
    assert!(why.operators.iter().any(|it| (&*it.operator, it.place.worker, it.idle) == ("time", 1, false)));
}

#[test]
fn what_does_not_answer_or_come_back_is_the_first_suspect() {
    let partitions = || vec![partition("a", 1, Some(30), PartitionState::Active)];
    let mut seen = two(partitions());
    let doing = Doing {
        step: "slow".to_owned(),
        worker: Slot(1),
        record: "key 7".to_owned(),
        for_ms: Some(2_500),
        waits_for_store: false,
    };
    seen.answers.get_mut(&Slot(1)).unwrap().chains[1].doing = Some(doing);
    let watermark = seen.explain(5).watermark.unwrap();
    assert_eq!((watermark.held_back_by, &*watermark.standing[0].step), (Holder::Step, "slow"));
    seen.answers.remove(&Slot(0));
    let why = seen.explain(5);
    assert_eq!(why.watermark.unwrap().held_back_by, Holder::Process);
    let silent = &why.silent[0];
    assert_eq!(
        (&*silent.taskmanager, &*silent.host, silent.pid, &*silent.slots),
        ("tm-0", "host-0", Some(100), &[0][..])
    );
}

#[test]
fn chains_that_have_not_passed_the_barrier_are_named() {
    let checkpoint = two(Vec::new()).explain(5).checkpoint.unwrap();
    assert_eq!((checkpoint.epoch, checkpoint.duration, checkpoint.passed), (4, 700, 2));
    let waiting: Vec<_> =
        checkpoint.waiting.iter().map(|chain| (&*chain.operator, &*chain.place.host)).collect();
    assert_eq!(waiting, [("minutes", "host-0"), ("minutes", "host-1")]);
}

#[test]
fn a_job_that_does_not_run_says_only_what_it_waits_for() {
    let mut seen = seen(Vec::new());
    seen.summary.state = JobState::Restarting;
    seen.view.waits_for = Some("3 slots are needed".to_owned());
    let why = seen.explain(5);
    assert_eq!(why.waits_for.as_deref(), Some("3 slots are needed"));
    assert!(why.silent.is_empty() && why.checkpoint.is_none() && why.watermark.is_none());
}

#[test]
fn what_several_processes_wait_for_is_named_once() {
    let waits = |what: &str, for_ms: u64| AwaitedByProcess { what: what.to_owned(), for_ms };
    let with = |worker: u32, awaited: Vec<AwaitedByProcess>| {
        let (slot, why) = answer(worker, None, Vec::new());
        (slot, ProcessWhy { awaited, ..why })
    };
    let seen = seen(vec![
        with(0, vec![waits("the registry", 5_000), waits("the brokers", 7_000)]),
        with(1, vec![waits("the brokers", 9_000)]),
    ]);
    let awaited: Vec<_> =
        seen.explain(5).awaited.into_iter().map(|it| (it.what, it.duration, it.workers)).collect();
    let expected =
        [("the brokers".to_owned(), 9_000, vec![0, 1]), ("the registry".to_owned(), 5_000, vec![0])];
    assert_eq!(awaited, expected);
}
