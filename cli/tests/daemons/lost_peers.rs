//! What the log of a process has when another process of its job has died.

use std::fs;

use crate::cluster::{Cluster, program, signal};

#[test]
fn a_process_that_loses_another_one_says_so_in_a_line_and_shows_no_panic() {
    let Some(program) = program("sensor-rules") else { return };
    let mut cluster = Cluster::new();
    // What is printed of a panic is printed.
    cluster.set("RUST_BACKTRACE", "1");
    cluster.start_jobmanager("");
    cluster.start_taskmanager("tm1", "");
    cluster.start_taskmanager("tm2", "");
    cluster.wait_for_taskmanagers(2);
    cluster.submit_rules(&program, "-p 2");
    cluster.until("the job runs", |cluster| cluster.json("info rules").unwrap()["state"] == "RUNNING");
    let info = cluster.json("info rules").unwrap();
    let id = info["id"].as_str().unwrap().to_owned();
    let (mut lost, mut left) = (&info["processes"][0], &info["processes"][1]);
    if lost["slots"][0] != 0 {
        (lost, left) = (left, lost);
    }

    // The jobmanager would have the other process killed, perhaps before that has logged anything.
    signal("-STOP", cluster.pid(0));
    signal("-KILL", lost["pid"].as_u64().unwrap());
    let log = |cluster: &Cluster| {
        let logs = ["tm1", "tm2"].map(|name| cluster.path(name).join(format!("logs/{id}/1-1.log")));
        logs.iter().filter_map(|log| fs::read_to_string(log).ok()).collect::<String>()
    };
    cluster.until("the broken connection is logged", |cluster| log(cluster).contains("this attempt ends"));
    signal("-CONT", cluster.pid(0));
    cluster.until("the job runs again", |cluster| {
        let info = cluster.json("info rules").unwrap();
        info["state"] == "RUNNING" && info["attempt"] == 2
    });
    let log = log(&cluster);
    let expected = "warning: the connection to the process of worker 0 at 127.0.0.1:";
    assert!(log.starts_with(expected), "the process {left} has logged: {log}");
    assert!(!log.contains("panicked") && !log.contains("stack backtrace"), "{log}");
}
