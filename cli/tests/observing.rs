//! Metrics of the daemons and `tidegate why`, with a real cluster and a real job: `sensor-rules`, which is built beside the
//! program.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A cluster of one jobmanager and two taskmanagers of one slot each, with metrics.
struct Cluster {
    directory: TempDir,
    jobmanager: u16,
    metrics: Vec<u16>,
    daemons: Vec<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (jobmanager, metrics) = (free_port(), (0..3).map(|_| free_port()).collect());
        let mut cluster = Self { directory, jobmanager, metrics, daemons: Vec::new() };
        // Its secret is created by the first daemon.
        for (i, port) in cluster.metrics.clone().into_iter().enumerate() {
            let verb = match i {
                0 => format!("jobmanager --data jm --checkpoint-store store --listen 127.0.0.1:{jobmanager}"),
                _ => format!("taskmanager --data tm{i} --slots 1"),
            };
            cluster.daemon(&format!("{verb} --metrics 127.0.0.1:{port}"));
        }
        cluster.until("the taskmanagers are connected", |cluster| {
            cluster.json("taskmanagers").is_some_and(|all| all.as_array().unwrap().len() == 2)
        });
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(line.split_whitespace()).current_dir(&self.directory).env_clear().stdin(Stdio::null());
        command.env("HOME", self.directory.path());
        command.env("TIDEGATE_JOBMANAGER", format!("127.0.0.1:{}", self.jobmanager));
        command
    }

    fn daemon(&mut self, line: &str) {
        let log = fs::File::create(self.path(&format!("log-{}", self.daemons.len()))).unwrap();
        let mut command = self.command(line);
        self.daemons.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn run(&self, line: &str) -> Option<String> {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        if !status.success() {
            eprintln!("{line}: {}", String::from_utf8_lossy(&stderr));
            return None;
        }
        Some(String::from_utf8(stdout).unwrap())
    }

    fn json(&self, line: &str) -> Option<Value> {
        Some(serde_json::from_str(&self.run(&format!("{line} -o json"))?).unwrap())
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < Duration::from_secs(30), "waited for too long: {what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The metrics that a daemon serves.
    fn metrics(&self, daemon: usize) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics[daemon])).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The program of the job, which cargo builds into the same directory as this test's program if the whole workspace is
/// built.
fn sensor_rules() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tidegate")).with_file_name("sensor-rules");
    path.exists().then_some(path)
}

fn signal(name: &str, pid: u64) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn append(path: &Path, times: std::ops::Range<i64>) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for time in times {
        let timestamp = 1_700_000_000_000_i64 + time * 1_000;
        writeln!(
            file,
            r#"{{"device_id":"d{}","timestamp":{timestamp},"temperature":20.0,"vibration":1.0,"pressure":1.0}}"#,
            time % 7
        )
        .unwrap();
    }
}

#[test]
fn metrics_and_why_name_what_holds_a_job_back() {
    let Some(program) = sensor_rules() else {
        eprintln!("sensor-rules is not built: nothing is tested; build the workspace first");
        return;
    };
    let cluster = Cluster::start();
    for directory in ["in", "rules"] {
        fs::create_dir(cluster.path(directory)).unwrap();
    }
    fs::write(cluster.path("rules/part-0.jsonl"), "").unwrap();
    append(&cluster.path("in/part-0.jsonl"), 0..500);
    append(&cluster.path("in/part-1.jsonl"), 0..20);
    let line = format!(
        "run -d -p 2 --name rules {} -- --follow --input in --rules rules --output out --dead-letters dead",
        program.display()
    );
    cluster.run(&line).expect("the job is submitted");

    cluster.until("the job runs and has completed a checkpoint", |cluster| {
        let info = cluster.json("info rules").unwrap();
        info["state"] == "RUNNING" && info["checkpoints"]["completed"].as_u64() > Some(0)
    });
    cluster.until("the quiet partition is named", |cluster| {
        let why = cluster.json("why rules").unwrap();
        let held_by = &why["watermark"]["partitions"][0];
        held_by["partition"] == "part-1.jsonl" && held_by["quiet_since"].is_i64()
    });
    let why = cluster.json("why rules").unwrap();
    assert_eq!(why["watermark"]["held_back_by"], "partition", "{why}");
    assert_eq!(why["watermark"]["furthest"].as_i64(), Some(1_700_000_000_000 + 499_000 - 2_001), "{why}");
    let text = cluster.run("why rules").unwrap();
    assert!(text.starts_with("The watermark of 'breaches' is 2023-11-14 "), "{text}");
    assert!(text.contains("partition 'part-1.jsonl' of source 'readings' on worker "), "{text}");
    assert!(text.contains(" has had nothing since 20"), "{text}");

    let jobmanager = cluster.metrics(0);
    for expected in ["tidegate_jobmanager_taskmanagers 2\n", "tidegate_jobs{state=\"RUNNING\"} 1\n"] {
        assert!(jobmanager.contains(expected), "{jobmanager}");
    }
    assert!(jobmanager.contains("tidegate_job_running{job=\"rules\",job_id=\""), "{jobmanager}");
    let taskmanagers = [1, 2].map(|daemon| cluster.metrics(daemon));
    for text in &taskmanagers {
        for expected in ["_processes 1\n", "_connected 1\n", "_processes_silent 0\n", "_metrics_refused 0\n"]
        {
            assert!(text.contains(&format!("\ntidegate_taskmanager{expected}")), "{text}");
        }
        for family in [
            "records_in_total",
            "bytes_in_total",
            "busy_microseconds",
            "alignment_microseconds",
            "checkpoint_bytes",
        ] {
            assert_eq!(text.matches(&format!("# TYPE tidegate_{family} ")).count(), 1, "{family}: {text}");
        }
        assert!(text.contains(",attempt=\"1\"} "), "{text}");
    }

    // One that is stopped is named at once; after twice the lease it is killed.
    let info = cluster.json("info rules").unwrap();
    let process = &info["processes"][0];
    signal("-STOP", process["pid"].as_u64().unwrap());
    let why = cluster.json("why rules").unwrap();
    assert_eq!(why["silent"][0]["pid"], process["pid"], "{why}");
    assert_eq!(why["silent"].as_array().unwrap().len(), 1, "{why}");
    assert_eq!(why["silent"][0]["host"], "127.0.0.1", "{why}");
    assert_eq!(why["watermark"]["held_back_by"], "process", "{why}");
    let silent = (1..3)
        .filter(|daemon| cluster.metrics(*daemon).contains("\ntidegate_taskmanager_processes_silent 1\n"));
    assert_eq!(silent.count(), 1);
    cluster.until("the process that hangs is killed, and the job runs again", |cluster| {
        let info = cluster.json("info rules").unwrap();
        info["state"] == "RUNNING" && info["attempt"] == 2
    });
    let killed = [1, 2].map(|daemon| cluster.metrics(daemon).contains("_processes_killed_total 1\n"));
    assert_eq!(killed.iter().filter(|killed| **killed).count(), 1);
}
