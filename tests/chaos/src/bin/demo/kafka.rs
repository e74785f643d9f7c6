//! `make demo-kafka`: topic in, topics out. A taskmanager is killed, then the broker; then everything is killed, and away for longer than the
//! timeout of transactions. At the end the topics are read as a reader of committed messages sees them.
//!
//! In the last case the broker dies first. So the job has a complete snapshot whose output is not published, and everything that
//! could still publish it is killed. A sink that leaves the output of a snapshot in an open transaction loses it there: the broker
//! aborts the transaction.

use crate::cluster::{Cluster, Info};
use crate::screen::{Screen, grouped};
use crate::stage::{PARTITIONS, Stage, wait};
use crate::{alerts, verdict};
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate_chaos::cluster::daemon::Daemon;
use tidegate_chaos::oracle::Counts;
use tidegate_chaos::topics::Topics;
use tidegate_chaos::topics::follower::Follower;
use tidegate_chaos::{Context, Failure, Oracle, Result, judge};
use tidegate_kafka_tests::Brokers;

/// The event time of the first row.
const START_TIME_MS: u64 = 1_700_000_000_000;
/// The topics.
const INPUT: &str = "sensor-data";
const OUTPUT: &str = "alert-signals";
const DEAD_LETTERS: &str = "dead-letters";
/// Partitions of the output.
const OUTPUT_PARTITIONS: usize = 3;
/// Rows that the generator writes a second.
const RATE: u64 = 20_000;
/// The checkpoint interval of the job.
const INTERVAL: &str = "200ms";
/// The setting transaction.timeout.ms of the job.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// For so long everything is away.
const OUTAGE: Duration = Duration::from_secs(13);
/// The broker is away for so long after it was killed.
const BROKER_AWAY: Duration = Duration::from_secs(2);
/// After the death of the broker the job completes a snapshot within this time; or it has done so, and publishes it.
const SNAPSHOT: Duration = Duration::from_secs(1);
/// What happens when so much is published: a taskmanager dies, the broker, everything.
const AT: [f64; 3] = [0.2, 0.4, 0.6];
/// A broker, a job or a reader that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is counted what is published.
const GLANCE: Duration = Duration::from_millis(20);

/// All of the demo.
pub(crate) fn play(stage: &Stage, screen: &Screen) -> Result<()> {
    let started = Instant::now();
    if let Some(reason) = Brokers::obstacle() {
        return Err(Failure::new(format!("there is no Apache Kafka for the demo: {reason}")));
    }
    screen.title(
        "A taskmanager is killed, the broker, then everything. No row may be lost, doubled or changed.",
    );
    let oracle = stage.prepare(screen, Some(INPUT))?;
    let brokers = start_broker(screen)?;
    let cluster = stage.start_cluster(screen)?;
    let mut act = Act::begin(stage, screen, (&brokers, &cluster), &oracle)?;
    act.kill_taskmanager()?;
    act.restart_broker()?;
    act.outage()?;
    act.drain(&oracle)?;
    audit(screen, &act, &oracle)?;
    println!(
        "\n  {} All of this demo {:.1} s.",
        screen.green("Exactly once."),
        started.elapsed().as_secs_f64()
    );
    println!(
        "  {}",
        screen.dim("Next: `make kafka` starts a broker for you; docs/connectors.md has the job's arguments.")
    );
    Ok(())
}

fn start_broker(screen: &Screen) -> Result<Brokers> {
    let started = Instant::now();
    screen.live("broker", "starting ...");
    let brokers = Brokers::start(1, &[]).context("the broker does not start")?;
    screen.timed("broker", &format!("Apache Kafka at {}", brokers.bootstrap()), started.elapsed());
    Ok(brokers)
}

/// A job that runs, the generator that feeds it, and a reader that follows it.
struct Act<'a> {
    screen: &'a Screen,
    brokers: &'a Brokers,
    cluster: &'a Cluster,
    topics: Topics,
    job: String,
    generator: Daemon,
    follower: Follower,
    expected: usize,
    until: Instant,
}

impl<'a> Act<'a> {
    fn begin(
        stage: &Stage,
        screen: &'a Screen,
        (brokers, cluster): (&'a Brokers, &'a Cluster),
        oracle: &Oracle,
    ) -> Result<Act<'a>> {
        let topics = Topics::new(brokers.bootstrap(), None);
        topics.create(INPUT, PARTITIONS as usize)?;
        topics.create(OUTPUT, OUTPUT_PARTITIONS)?;
        topics.create(DEAD_LETTERS, 1)?;
        let generator = start_generator(stage, &topics)?;
        let rate = grouped(RATE);
        screen.line("generator", &format!("{rate} rows a second to {INPUT}, {PARTITIONS} partitions"));
        let follower =
            Follower::start(&topics, &[(OUTPUT.into(), OUTPUT_PARTITIONS), (DEAD_LETTERS.into(), 1)])?;
        let job = stage.submit(screen, cluster, INTERVAL, &arguments(&topics))?;
        let (expected, until) = (oracle.windows.len(), Instant::now() + PATIENCE);
        Ok(Act { screen, brokers, cluster, topics, job, generator, follower, expected, until })
    }

    fn kill_taskmanager(&mut self) -> Result<()> {
        self.come_to(AT[0])?;
        let info = self.running()?;
        let process = info.processes.first();
        let victim = process.ok_or_else(|| Failure::new("the job runs, and has no process"))?;
        self.cluster.kill(&victim.taskmanager)?;
        let clock = Instant::now();
        self.done(&format!("kill -9 of taskmanager {}", victim.taskmanager))?;
        self.recovered(&info, 1)?;
        self.published_anew(clock, "after the kill")
    }

    fn restart_broker(&mut self) -> Result<()> {
        self.come_to(AT[1])?;
        let info = self.running()?;
        self.brokers.kill(1).map_err(Failure::new)?;
        self.done("kill -9 of the broker, started again after 2 s")?;
        std::thread::sleep(BROKER_AWAY);
        let clock = self.start_broker_again()?;
        self.recovered(&info, 0)?;
        self.published_anew(clock, "after it answers; the job has waited")
    }

    fn outage(&mut self) -> Result<()> {
        self.come_to(AT[2])?;
        let info = self.running()?;
        let newest = newest_snapshot(&info)?;
        self.brokers.kill(1).map_err(Failure::new)?;
        let until = Instant::now() + SNAPSHOT;
        while Instant::now() < until && newest_snapshot(&info)? == newest {
            std::thread::sleep(GLANCE);
        }
        let snapshot = newest_snapshot(&info)?.replace("manifest-", "").replace(".json", "");
        let killed = self.cluster.kill_all(&info)?;
        self.done(&format!("kill -9 of the broker, then of all {killed} processes"))?;
        let away = Instant::now();
        self.screen.line(
            "",
            &format!(
                "snapshot {} is complete; what of it is not published waits there",
                snapshot.trim_start_matches('0')
            ),
        );
        while away.elapsed() < OUTAGE {
            let left = (OUTAGE - away.elapsed().min(OUTAGE)).as_secs_f64();
            self.screen.live("away", &format!("{left:.0} s"));
            std::thread::sleep(GLANCE);
        }
        let (seconds, timeout) = (away.elapsed().as_secs(), TRANSACTION_TIMEOUT.as_secs());
        self.screen.line("away", &format!("for {seconds} s; transaction.timeout.ms is {timeout} s"));
        self.start_broker_again()?;
        self.cluster.up_again()?;
        let clock = Instant::now();
        self.recovered(&info, 1)?;
        self.published_anew(clock, "after the start of the cluster")
    }

    fn drain(&mut self, oracle: &Oracle) -> Result<()> {
        self.until = Instant::now() + PATIENCE;
        while self.generator.is_running() {
            self.screen.bar("running", self.part()?, "");
            wait(self.until, &self.job)?;
        }
        let said = self.generator.last_lines(1).concat();
        let counts: Counts =
            serde_json::from_str(&said).map_err(|_| Failure::new(format!("the generator failed: {said}")))?;
        if counts != oracle.counts {
            return Err(Failure::new(format!(
                "the generator has written {counts:?}, and not {:?}",
                oracle.counts
            )));
        }
        self.cluster.drain(&self.job)?;
        let state = self.cluster.info(&self.job)?.state;
        if state != "FINISHED" {
            return Err(Failure::new(format!("after stop --drain the job is {state}")));
        }
        self.screen.bar_done("drained", self.part()?, "the generator has ended, and the job has read all");
        Ok(())
    }

    /// Waits until this part of the output is published.
    fn come_to(&mut self, part: f64) -> Result<()> {
        self.until = Instant::now() + PATIENCE;
        while self.part()? < part {
            self.screen.bar("running", self.part()?, "");
            std::thread::sleep(GLANCE);
            wait(self.until, &self.job)?;
        }
        Ok(())
    }

    fn done(&self, what: &str) -> Result<()> {
        self.screen.bar_done("running", self.part()?, what);
        Ok(())
    }

    /// Waits until the job runs, in this many attempts more than before, and until a reader sees something new.
    fn recovered(&mut self, before: &Info, attempts: u32) -> Result<()> {
        self.until = Instant::now() + PATIENCE;
        let runs = |info: &Info| info.state == "RUNNING" && info.attempt >= before.attempt + attempts;
        // Just after its start the jobmanager may not answer yet.
        while !self.cluster.info(&self.job).is_ok_and(|info| runs(&info)) {
            wait(self.until, &self.job)?;
        }
        let seen = self.seen()?;
        while self.seen()? == seen {
            self.screen.bar("recovered", self.part()?, "");
            wait(self.until, &self.job)?;
        }
        if attempts == 0 && self.running()?.attempt != before.attempt {
            return Err(Failure::new("the job has started anew, and should have waited for the broker"));
        }
        Ok(())
    }

    fn published_anew(&self, clock: Instant, since: &str) -> Result<()> {
        let ms = grouped(clock.elapsed().as_millis() as u64);
        self.screen.bar_done("recovered", self.part()?, &format!("published anew {ms} ms {since}"));
        Ok(())
    }

    /// Returns when it answers.
    fn start_broker_again(&self) -> Result<Instant> {
        self.brokers.restart(1).map_err(Failure::new)?;
        self.topics.await_brokers(PATIENCE)?;
        Ok(Instant::now())
    }

    fn running(&self) -> Result<Info> {
        let info = self.cluster.info(&self.job)?;
        if info.state == "RUNNING" {
            Ok(info)
        } else {
            Err(Failure::new(format!("the job is {}", info.state)))
        }
    }

    /// The part of the expected windows that a reader has seen.
    fn part(&self) -> Result<f64> {
        let windows =
            self.follower.with_seen(|seen| seen[0].iter().map(|file| lines(&file.bytes)).sum::<usize>())?;
        Ok(windows as f64 / self.expected.max(1) as f64)
    }

    /// How many bytes a reader has seen.
    fn seen(&self) -> Result<usize> {
        self.follower.with_seen(|seen| seen.iter().flatten().map(|file| file.bytes.len()).sum())
    }
}

fn start_generator(stage: &Stage, topics: &Topics) -> Result<Daemon> {
    let Stage { rows, devices, seed, .. } = *stage;
    let mut command = Command::new(&stage.generator);
    command.args(["--out", &format!("kafka:{INPUT}"), "--quiet"]);
    command.args(["--kafka", &format!("bootstrap.servers={}", topics.bootstrap())]);
    let numbers =
        [("rows", rows), ("devices", devices), ("partitions", PARTITIONS), ("seed", seed), ("rate", RATE)];
    command.args(numbers.map(|(name, value)| format!("--{name}={value}")));
    // The same seed is to give the same stream; the topics keep it however old it is.
    command.arg(format!("--start-time={START_TIME_MS}"));
    let log = stage.bench.log.with_file_name("generator.log");
    let mut generator = Daemon::new("generator", command, log);
    generator.start()?;
    Ok(generator)
}

/// Those of the job, but the model.
fn arguments(topics: &Topics) -> Vec<String> {
    let topic = |name: &str| format!("kafka:{name}");
    let mut words = vec!["--input".to_owned(), topic(INPUT), "--output".into(), topic(OUTPUT)];
    words.extend(["--dead-letters".into(), topic(DEAD_LETTERS), "--follow".into()]);
    let settings = [
        format!("bootstrap.servers={}", topics.bootstrap()),
        format!("transaction.timeout.ms={}", TRANSACTION_TIMEOUT.as_millis()),
    ];
    words.extend(settings.into_iter().flat_map(|setting| ["--kafka".to_owned(), setting]));
    words
}

/// The newest manifest of the job.
fn newest_snapshot(info: &Info) -> Result<String> {
    let dir = &info.checkpoint_directory;
    let entries = std::fs::read_dir(dir).context(format!("cannot list {}", dir.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("manifest")).max().unwrap_or_default())
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// What a reader of committed messages sees who comes now, and what Flink is known to do in the same place.
fn audit(screen: &Screen, act: &Act<'_>, oracle: &Oracle) -> Result<()> {
    screen.live("audit", "reading the topics ...");
    let [output, dead_letters] = [OUTPUT, DEAD_LETTERS].map(|topic| act.topics.read(topic, PATIENCE));
    let (output, dead_letters) = (output?, dead_letters?);
    let verdict = judge::judge_files(oracle, &output, &dead_letters);
    screen.line("audit", &format!("{OUTPUT} and {DEAD_LETTERS}, read with isolation.level=read_committed"));
    let blocked = act.follower.blocked();
    let blocked = blocked.undisturbed.max(blocked.disturbed).as_secs_f64();
    screen.line("", &format!("such a reader was blocked by an open transaction for {blocked:.1} s at most"));
    verdict::print(screen, &verdict);
    alerts::print(screen, &output);
    verdict::must_be_complete(&verdict)?;
    println!();
    FLINK.lines().for_each(|line| println!("  {}", screen.dim(line)));
    Ok(())
}

/// As measured by scripts/flink-outage.sh.
const FLINK: &str = "\
Flink 2.0 in the place of the last outage (KafkaSink, EXACTLY_ONCE): of 30,000 rows 10,000 are lost, in five runs of
five, and the job goes on RUNNING. scripts/flink-outage.sh repeats it; docs/from-flink.md says why.";
