//! Scenarios: events, and what follows from them, as text.

use std::collections::BTreeMap;

use tidegate_protocol::link::{Report, ToDriver, ToProcess};
use tidegate_protocol::{Epoch, KeyGroups, Slot};

use super::*;

const LEASE: Duration = Duration::from_secs(3);

fn id(attempt: u32, first: u32) -> ProcessId {
    ProcessId { job: JobId([1; 16]), attempt: Attempt(attempt), first: Slot(first) }
}

fn program() -> Program {
    let (name, sha256, path) = ("job".to_owned(), "aa".to_owned(), "/store/aa".to_owned());
    Program { name, sha256, path, arguments: vec![], directory: None }
}

fn launch(process: ProcessId) -> Event {
    let preparation = Box::new(Preparation {
        job: process.job,
        attempt: process.attempt,
        parallelism: 4,
        first: process.first,
        workers: 2,
        key_groups: KeyGroups::default(),
        memory: None,
        store: "/store".to_owned(),
        working: PathBuf::new(),
        copies: PathBuf::new(),
        restored: None,
        published: Epoch(0),
        first_epoch: Epoch(1),
        store_ids: BTreeMap::new(),
        drains: false,
        secret: "secret".to_owned(),
        listen: String::new(),
        tls: None,
        silence_ms: 0,
    });
    Event::Message(ToTaskManager::Launch { program: program(), preparation })
}

fn report(process: ProcessId, report: Report) -> Event {
    let report = ToDriver { attempt: process.attempt, report };
    Event::FromProcess(process, FromJobProcess::Report(report))
}

fn command(process: ProcessId, command: Command) -> Event {
    let message = Box::new(ToJobProcess::Command(ToProcess { attempt: process.attempt, command }));
    Event::Message(ToTaskManager::ToProcess { process, message })
}

fn kill(attempt: u32) -> Event {
    Event::Message(ToTaskManager::Kill { job: JobId([1; 16]), attempt: Attempt(attempt) })
}

fn registered() -> Event {
    Event::Message(ToTaskManager::Registered { lease_ms: 3000 })
}

fn exited(process: ProcessId) -> Event {
    Event::Exited { process, how: HowEnded::from_outside("was killed by signal 9 (SIGKILL)") }
}

/// A taskmanager at a time.
struct World {
    supervisor: Supervisor,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let identity = Identity {
            id: TaskManagerId("tm-00000001".to_owned()),
            pid: 1,
            slots: 4,
            address: "host".to_owned(),
            listen: "127.0.0.1".to_owned(),
            tls: None,
            jobs: PathBuf::from("/data/jobs"),
            copies: PathBuf::from("/data/copies"),
            lease: LEASE,
            away: Duration::from_secs(300),
        };
        Self { supervisor: Supervisor::new(identity), now: Duration::ZERO }
    }

    /// One that is registered.
    fn connected() -> Self {
        let mut world = Self::new();
        world.on(Event::Connected);
        world.on(registered());
        world
    }

    /// One with processes that run.
    fn running(processes: &[ProcessId]) -> Self {
        let mut world = Self::connected();
        for (i, process) in processes.iter().enumerate() {
            world.on(launch(*process));
            world.on(Event::Fetched { process: *process, result: Ok(()) });
            world.on(Event::Spawned { process: *process, result: Ok(100 + i as u32) });
        }
        world
    }

    fn on(&mut self, event: Event) -> String {
        let effects = self.supervisor.handle(self.now, event);
        effects.iter().map(show).collect::<Vec<_>>().join("; ")
    }

    /// Lets time pass, in which these processes answer; what happens but for signs of life.
    fn pass(&mut self, time: Duration, answering: &[ProcessId]) -> String {
        let (until, mut shown) = (self.now + time, Vec::new());
        while self.now < until {
            self.now += Duration::from_millis(100);
            let ticked = self.on(Event::Tick);
            shown.extend(
                ticked.split("; ").filter(|e| !e.is_empty() && !e.contains("ping")).map(str::to_owned),
            );
            for process in answering {
                assert_eq!(self.on(Event::FromProcess(*process, FromJobProcess::Pong)), "");
            }
        }
        shown.retain(|effect| effect != "send pong");
        shown.join("; ")
    }
}

fn name(process: &ProcessId) -> String {
    format!("{}-{}", process.attempt, process.first)
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Send(message) => format!("send {}", show_message(message)),
        Effect::Disconnect => "disconnect".to_owned(),
        Effect::Lease(lease) => format!("lease {lease:?}"),
        Effect::Fetch { process, .. } => format!("fetch {}", name(process)),
        Effect::Spawn { process, working, .. } => format!("spawn {} in {}", name(process), working.display()),
        Effect::Tell(process, message) => {
            let text = match message {
                ToJobProcess::Prepare(it) => {
                    format!("prepare {} {} {}", it.working.display(), it.listen, it.silence_ms)
                }
                ToJobProcess::Command(to) => format!("{:?}", to.command).to_lowercase(),
                message => format!("{message:?}").to_lowercase(),
            };
            format!("tell {} {text}", name(process))
        }
        Effect::Kill(process) => format!("kill {}", name(process)),
        Effect::PassOn(PassedOn { process, answer: ProcessAnswer::Why { request, .. } }) => {
            format!("pass on {} why {request}", name(process))
        }
        Effect::Metrics { request, gathered: Gathered { texts, silent, own } } => {
            let texts: String =
                texts.iter().map(|(process, text)| format!(" {} {text}", name(process))).collect();
            let Own { slots, processes, killed, ignored, is_connected } = own;
            format!(
                "metrics {request}{texts} silent {silent} of {processes}, slots {slots} killed {killed} ignored {ignored} \
                 connected {is_connected}"
            )
        }
        Effect::Describe { request, .. } => format!("describe {request}"),
        Effect::ReadLogs { request, .. } => format!("read logs {request}"),
    }
}

fn show_message(message: &FromTaskManager) -> String {
    match message {
        FromTaskManager::Register(registration) => {
            let processes = registration.processes.iter().map(|it| {
                let numbers = |slots: &[Slot]| slots.iter().map(|slot| slot.0).collect::<Vec<_>>();
                let (ready, ended) = (numbers(&it.ready), numbers(&it.ended));
                format!(
                    " {}:{} ready {ready:?} ended {ended:?} triggered {}",
                    name(&it.process),
                    it.pid,
                    it.triggered
                )
            });
            format!("register{}", processes.collect::<String>())
        }
        FromTaskManager::Started { process, pid } => format!("started {} {pid}", name(process)),
        FromTaskManager::Exited { process, how } => format!("exited {} {}", name(process), how.text),
        FromTaskManager::FromProcess { process, message } => match &**message {
            FromJobProcess::Report(report) => format!("{} {:?}", name(process), report.report),
            message => format!("{} {message:?}", name(process)),
        },
        FromTaskManager::Described { request, result } => format!("described {request} {}", result.is_ok()),
        FromTaskManager::Logs { request, text, position } => format!("logs {request} '{text}' {position}"),
        FromTaskManager::Pong => "pong".to_owned(),
    }
}

const KILLED: &str = "was killed by signal 9 (SIGKILL)";

#[test]
fn a_process_is_fetched_started_and_told_what_it_has_to_know() {
    let mut world = World::new();
    assert_eq!(world.on(Event::Connected), "send register");
    assert_eq!(world.on(registered()), "lease 3s");
    let process = id(1, 2);
    assert_eq!(world.on(launch(process)), "fetch 1-2");
    let job = JobId([1; 16]);
    assert_eq!(
        world.on(Event::Fetched { process, result: Ok(()) }),
        format!("spawn 1-2 in /data/jobs/{job}/1-2")
    );
    assert_eq!(
        world.on(Event::Spawned { process, result: Ok(7) }),
        format!("tell 1-2 prepare /data/jobs/{job}/1-2 127.0.0.1 3000; send started 1-2 7")
    );
    assert_eq!(world.on(launch(process)), "send started 1-2 7", "told twice");
    assert_eq!(
        world.on(Event::FromProcess(process, FromJobProcess::Listening { port: 9 })),
        "send 1-2 Listening { port: 9 }"
    );
    assert_eq!(world.on(command(process, Command::StopReading)), "tell 1-2 stopreading");
    assert_eq!(world.on(exited(process)), format!("send exited 1-2 {KILLED}"));
    assert_eq!(world.on(command(process, Command::StopReading)), "");
    assert_eq!(world.on(Event::FromProcess(process, FromJobProcess::Listening { port: 9 })), "");
    assert_eq!(world.supervisor.ignored(), 1);
}

#[test]
fn a_process_that_cannot_be_started_has_ended() {
    let mut world = World::connected();
    world.on(launch(id(1, 0)));
    assert_eq!(
        world.on(Event::Fetched { process: id(1, 0), result: Err("its SHA-256 is x".to_owned()) }),
        "send exited 1-0 was not started: its SHA-256 is x"
    );
    world.on(launch(id(2, 0)));
    world.on(Event::Fetched { process: id(2, 0), result: Ok(()) });
    assert_eq!(
        world.on(Event::Spawned { process: id(2, 0), result: Err("no memory".to_owned()) }),
        "send exited 2-0 was not started: no memory"
    );
    world.on(launch(id(3, 0)));
    assert_eq!(world.on(kill(3)), "send exited 3-0 was ended before it was started");
    assert_eq!(world.on(Event::Fetched { process: id(3, 0), result: Ok(()) }), "");
    world.on(launch(id(4, 0)));
    assert_eq!(
        world.on(command(id(4, 0), Command::Abort)),
        "send exited 4-0 was ended before it was started"
    );
}

#[test]
fn a_process_starts_after_those_of_older_attempts_have_ended() {
    let mut world = World::running(&[id(1, 0), id(1, 2)]);
    assert_eq!(world.on(launch(id(2, 0))), "kill 1-0; kill 1-2; fetch 2-0");
    assert_eq!(world.on(Event::Fetched { process: id(2, 0), result: Ok(()) }), "");
    assert_eq!(world.on(exited(id(1, 2))), format!("send exited 1-2 {KILLED}"));
    let ended = world.on(exited(id(1, 0)));
    assert!(ended.starts_with(&format!("send exited 1-0 {KILLED}; spawn 2-0 in ")), "{ended}");
    assert_eq!(
        world.on(launch(id(1, 0))),
        "send exited 1-0 was not started, because attempt 2 of the job was started"
    );
}

#[test]
fn the_jobmanager_kills_an_attempt_and_those_before_it() {
    let mut world = World::running(&[id(2, 0), id(2, 2)]);
    assert_eq!(world.on(kill(1)), "");
    assert_eq!(world.on(kill(2)), "kill 2-0; kill 2-2");
    assert_eq!(world.on(kill(3)), "", "once");
    let other = ToTaskManager::Kill { job: JobId([2; 16]), attempt: Attempt(9) };
    assert_eq!(World::running(&[id(2, 0)]).on(Event::Message(other)), "");
}

#[test]
fn a_process_that_does_not_answer_is_killed() {
    let mut world = World::running(&[id(1, 0), id(1, 2)]);
    assert_eq!(world.pass(Duration::from_millis(5_900), &[id(1, 0)]), "");
    assert_eq!(world.pass(Duration::from_millis(200), &[id(1, 0)]), "kill 1-2");
    assert_eq!(world.pass(Duration::from_secs(20), &[id(1, 0)]), "", "once");
    assert_eq!(world.on(exited(id(1, 2))), "send exited 1-2 has not answered for 6 s and was killed");
    // The taskmanager itself was stopped.
    world.now += Duration::from_secs(100);
    assert_eq!(world.pass(Duration::from_secs(1), &[]), "");
    assert_eq!(world.pass(Duration::from_secs(6), &[]), "kill 1-0");
    for (process, why) in
        [(id(1, 0), "does not read its messages"), (id(1, 0), "has sent something that is no message (x)")]
    {
        let mut world = World::running(&[process]);
        assert_eq!(world.on(Event::Misbehaved(process, why.to_owned())), "kill 1-0");
        assert_eq!(world.on(exited(process)), format!("send exited 1-0 {why}, and was killed"));
    }
}

#[test]
fn a_process_has_five_seconds_to_leave() {
    let mut world = World::running(&[id(1, 0)]);
    assert_eq!(world.on(command(id(1, 0), Command::Abort)), "tell 1-0 abort");
    assert_eq!(world.pass(Duration::from_millis(4_900), &[id(1, 0)]), "");
    assert_eq!(world.pass(Duration::from_millis(200), &[id(1, 0)]), "kill 1-0");
    assert_eq!(
        world.on(exited(id(1, 0))),
        "send exited 1-0 had not ended 5 s after it was told to, and was killed"
    );
}

#[test]
fn pings_and_pongs_are_sent_in_time() {
    let mut world = World::running(&[id(1, 0)]);
    let (mut pings, mut pongs) = (0, 0);
    for _ in 0..60 {
        world.now += Duration::from_millis(100);
        let ticked = world.on(Event::Tick);
        world.on(Event::FromProcess(id(1, 0), FromJobProcess::Pong));
        pings += usize::from(ticked.contains("tell 1-0 ping"));
        pongs += usize::from(ticked.contains("send pong"));
    }
    assert_eq!((pings, pongs), (12, 7), "every 0.5 s and every 0.75 s");
    assert_eq!(world.on(Event::Message(ToTaskManager::Ping)), "send pong");
    world.on(Event::Disconnected);
    assert_eq!(world.on(Event::Message(ToTaskManager::Ping)), "");
}

#[test]
fn after_a_reconnection_the_jobmanager_has_all_facts() {
    let (process, other) = (id(1, 0), id(1, 2));
    let mut world = World::running(&[process, other]);
    world.on(report(process, Report::Ready(Slot(0))));
    world.on(command(process, Command::Trigger { epoch: Epoch(5), last: false }));
    world.on(Event::Disconnected);
    assert_eq!(world.on(Event::FromProcess(process, FromJobProcess::Listening { port: 9 })), "");
    assert_eq!(world.on(report(process, Report::Ready(Slot(1)))), "");
    assert_eq!(world.on(report(process, Report::Ready(Slot(77)))), "", "not one of its slots");
    assert_eq!(world.on(report(process, Report::SourcesEnded(Slot(1)))), "");
    assert_eq!(world.on(report(other, Report::Failed(Error::job("no")))), "");
    assert_eq!(world.on(exited(other)), "");
    assert_eq!(
        world.on(Event::Connected),
        "send register 1-0:100 ready [0, 1] ended [1] triggered 5",
        "the first message is the registration"
    );
    assert_eq!(world.on(report(process, Report::Done(Slot(0)))), "", "it waits");
    let expected = format!(
        "lease 3s; send started 1-0 100; send 1-0 Listening {{ port: 9 }}; send 1-0 Done(Slot(0)); \
         send 1-2 Failed(no); send exited 1-2 {KILLED}"
    );
    assert_eq!(world.on(registered()), expected);
    // It may have been lost.
    world.on(Event::Disconnected);
    world.on(Event::Connected);
    assert!(world.on(registered()).ends_with(&format!("send exited 1-2 {KILLED}")));
    world.pass(Duration::from_secs(10), &[process]);
    world.on(Event::Disconnected);
    world.on(Event::Connected);
    assert!(!world.on(registered()).contains("1-2"), "it was received");
}

#[test]
fn what_waits_for_a_registration_is_bounded() {
    let mut world = World::running(&[id(1, 0)]);
    world.on(Event::Disconnected);
    world.on(Event::Connected);
    let note = || FromJobProcess::Note { warning: false, text: String::new() };
    let mut events = (0..20_000).map(|_| world.on(Event::FromProcess(id(1, 0), note())));
    assert_eq!(events.find(|effects| !effects.is_empty()).as_deref(), Some("disconnect"));
    assert!(events.all(|effects| effects.is_empty()));
    assert_eq!(world.on(registered()), "lease 3s", "of a connection that is given up");
}

#[test]
fn without_a_jobmanager_processes_are_killed_after_some_time() {
    let mut world = World::running(&[id(1, 0)]);
    assert_eq!(world.pass(Duration::from_secs(400), &[id(1, 0)]), "");
    world.on(Event::Disconnected);
    assert_eq!(world.pass(Duration::from_millis(299_900), &[id(1, 0)]), "");
    // A jobmanager that accepts no registration is none.
    world.on(Event::Connected);
    world.on(Event::Disconnected);
    assert_eq!(world.pass(Duration::from_millis(200), &[id(1, 0)]), "kill 1-0");
    world.on(exited(id(1, 0)));
    world.on(Event::Connected);
    assert_eq!(
        world.on(registered()),
        "lease 3s; send exited 1-0 was killed, because no jobmanager was reached for 300 s"
    );
}

#[test]
fn requests_are_answered_and_at_most_sixteen_at_a_time() {
    let mut world = World::connected();
    let describe = |request| Event::Message(ToTaskManager::Describe { request, program: program() });
    let logs = |request| {
        Event::Message(ToTaskManager::Logs {
            request,
            job: JobId([1; 16]),
            attempt: None,
            from: Some(5),
            bytes: 10,
        })
    };
    for request in 0..15 {
        assert_eq!(world.on(describe(request)), format!("describe {request}"));
    }
    assert_eq!(world.on(logs(15)), "read logs 15");
    assert_eq!(world.on(logs(16)), "send logs 16 '' 5");
    assert_eq!(world.on(describe(17)), "send described 17 false");
    assert_eq!(
        world.on(Event::LogsRead { request: 15, text: "a".to_owned(), position: 6 }),
        "send logs 15 'a' 6"
    );
    assert_eq!(
        world.on(Event::Described { request: 0, result: Ok(Box::default()) }),
        "send described 0 true"
    );
    assert_eq!(world.on(describe(18)), "describe 18");
}

#[test]
fn metrics_are_gathered_for_a_second_and_without_a_jobmanager() {
    let metrics = |text: &str| FromJobProcess::Metrics(text.to_owned());
    let mut world = World::running(&[id(1, 0), id(1, 2)]);
    assert_eq!(world.on(Event::MetricsWanted { request: 7 }), "tell 1-0 metrics; tell 1-2 metrics");
    assert_eq!(world.on(Event::FromProcess(id(1, 2), metrics("b"))), "", "it is not for the jobmanager");
    assert_eq!(
        world.on(Event::FromProcess(id(1, 0), metrics("a"))),
        "metrics 7 1-0 a 1-2 b silent 0 of 2, slots 4 killed 0 ignored 0 connected true"
    );
    world.on(Event::Disconnected);
    world.on(Event::MetricsWanted { request: 8 });
    world.on(Event::FromProcess(id(1, 0), metrics("a")));
    assert_eq!(world.pass(Duration::from_millis(900), &[id(1, 0)]), "");
    assert_eq!(
        world.pass(Duration::from_millis(100), &[id(1, 0)]),
        "metrics 8 1-0 a silent 1 of 2, slots 4 killed 0 ignored 0 connected false"
    );
    assert_eq!(world.on(Event::FromProcess(id(1, 2), metrics("late"))), "");
    world.pass(Duration::from_secs(7), &[id(1, 0)]);
    world.on(Event::MetricsWanted { request: 9 });
    world.on(Event::FromProcess(id(1, 0), metrics("a")));
    assert_eq!(
        world.on(exited(id(1, 2))),
        "metrics 9 1-0 a silent 1 of 1, slots 4 killed 1 ignored 0 connected false"
    );
    let mut idle = World::connected();
    assert_eq!(
        idle.on(Event::MetricsWanted { request: 1 }),
        "metrics 1 silent 0 of 0, slots 4 killed 0 ignored 0 connected true"
    );
}

#[test]
fn a_question_and_its_answer_are_passed_on() {
    let mut world = World::running(&[id(1, 0)]);
    let message = Box::new(ToJobProcess::Why { request: 5 });
    assert_eq!(
        world.on(Event::Message(ToTaskManager::ToProcess { process: id(1, 0), message })),
        "tell 1-0 why { request: 5 }"
    );
    let answer = || ProcessAnswer::Why { request: 5, why: Box::default() };
    assert_eq!(world.on(Event::Answered(id(1, 0), answer())), "pass on 1-0 why 5");
    assert_eq!(world.on(Event::Answered(id(1, 2), answer())), "", "no process of this taskmanager");
    world.on(Event::Disconnected);
    assert_eq!(world.on(Event::Answered(id(1, 0), answer())), "");
}

#[test]
fn a_taskmanager_that_ends_kills_its_processes_first() {
    let mut world = World::running(&[id(1, 0)]);
    assert!(!world.supervisor.is_finished(world.now));
    assert_eq!(world.on(Event::Stop), "kill 1-0");
    assert_eq!(world.on(launch(id(2, 0))), "send exited 2-0 was not started, because its taskmanager ends");
    assert!(!world.supervisor.is_finished(world.now));
    assert_eq!(world.on(exited(id(1, 0))), format!("send exited 1-0 {KILLED}"));
    assert!(world.supervisor.is_finished(world.now));

    let mut world = World::running(&[id(1, 0)]);
    world.on(Event::Stop);
    world.now += Duration::from_secs(5);
    assert!(world.supervisor.is_finished(world.now), "one that cannot be killed");
}
