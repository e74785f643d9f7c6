//! Metrics of the daemons and `tidegate why`, with a real cluster and a real job: `sensor-rules`, which is built beside the
//! program.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use crate::cluster::{Cluster, free_port, program, signal};

/// A cluster of one jobmanager and two taskmanagers of one slot each, with metrics.
struct Observed {
    cluster: Cluster,
    metrics: Vec<u16>,
}

impl Deref for Observed {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Observed {
    fn start() -> Self {
        let mut cluster = Cluster::new();
        cluster.patience = Duration::from_secs(30);
        let metrics: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let flag = |daemon: usize| format!("--metrics 127.0.0.1:{}", metrics[daemon]);
        // Its secret is created by the first daemon.
        cluster.start_jobmanager(&flag(0));
        cluster.start_taskmanager("tm1", &flag(1));
        cluster.start_taskmanager("tm2", &flag(2));
        cluster.wait_for_taskmanagers(2);
        Self { cluster, metrics }
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
    let Some(program) = program("sensor-rules") else { return };
    let cluster = Observed::start();
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
