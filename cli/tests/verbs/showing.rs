//! Verbs that only look: `list`, `info`, `taskmanagers`, `checkpoints`, `logs`, `config`.

use serde_json::json;

use crate::answers::{self, ID, details, not_found, summary, with};
use crate::fake::{Fake, program};

const SECOND: &str = "ff23456789abcdef0123456789abcdef";

fn with_two_jobs() -> Fake {
    Fake::start(|asked, _| match &*asked.target {
        "/v1/jobs/overview" => {
            (200, json!({"jobs": [summary(SECOND, "orders", "RUNNING"), summary(ID, "old", "FINISHED")]}))
        }
        target if target == format!("/v1/jobs/{SECOND}") => {
            (200, with(details("RUNNING"), json!({"jid": SECOND})))
        }
        _ => not_found(asked),
    })
}

#[test]
fn list_shows_the_jobs_that_were_asked_for() {
    let fake = with_two_jobs();
    let expected = "\
ID                                NAME    STATE    WORKERS  ATTEMPT  SUBMITTED                DURATION
ff23456789abcdef0123456789abcdef  orders  RUNNING  2        1        2023-11-14 22:13:20 UTC  1m 1s
";
    assert_eq!(fake.run("list").answer(), expected);
    assert_eq!(fake.run("list -r").answer(), expected);
    assert_eq!(fake.run("list -a").answer().lines().count(), 3);
    let jobs = fake.run("list -a -o json").json();
    assert_eq!([&jobs[0]["id"], &jobs[1]["state"]], [&json!(SECOND), &json!("FINISHED")]);
    assert_eq!(jobs[0]["start_time"], json!(1_700_000_000_000_u64));
}

#[test]
fn a_list_without_jobs_says_so_on_standard_error() {
    let fake = Fake::start(|_, _| (200, json!({"jobs": [summary(ID, "old", "FINISHED")]})));
    let ran = fake.run("list");
    assert_eq!((&*ran.stdout, ran.code), ("", Some(0)));
    assert!(ran.stderr.contains("'tidegate list -a' lists 1 more"), "{ran:?}");
    assert_eq!(fake.run("list -o json").answer(), "[]\n");
}

#[test]
fn info_shows_a_job_by_name_or_the_beginning_of_its_id() {
    let fake = with_two_jobs();
    let by_name = fake.run("info orders").answer();
    assert_eq!(fake.run("info ff2").answer(), by_name);
    for expected in [
        "Job          orders\n",
        "State        RUNNING\n",
        "Checkpoints  4 completed, the last one of epoch 5, 1 aborted\n",
        "Process      pid 17 on tm-1, workers 0 1\n",
    ] {
        assert!(by_name.contains(expected), "{by_name}");
    }
}

#[test]
fn info_shows_what_a_running_job_waits_for_and_where_its_load_is_uneven() {
    let at = |worker: u32, records: u64| {
        json!({
            "operator": "sum", "worker": worker, "taskmanager": "tm-1", "host": "h", "records": records, "key-groups": 64,
            "hottest-key-group": null
        })
    };
    let why = json!({
        "jid": ID, "name": "orders", "state": "RUNNING", "attempt": 1, "timestamp": 0, "waits-for": null, "silent": [],
        "watermark": null, "checkpoint": null, "operators": [], "partitions": [],
        "awaited": [{"what": "the brokers a:9092: timed out", "duration": 61_000, "workers": [0, 1]}],
        "keyed": [at(0, 90_000), at(1, 10_000)],
    });
    let fake = Fake::start(move |asked, _| match &*asked.target {
        target if target == format!("/v1/jobs/{ID}") => (200, details("RUNNING")),
        target if target == format!("/v1/jobs/{ID}/why") => (200, why.clone()),
        _ => not_found(asked),
    });
    let waits_for = "the brokers a:9092: timed out (for 1m 1s, workers 0 1)";
    let uneven = "worker 0 has 90 % of the records of 'sum' (2 workers)";
    let shown = fake.run(&format!("info {ID}")).answer();
    for expected in [format!("Waits for    {waits_for}\n"), format!("Uneven       {uneven}\n")] {
        assert!(shown.contains(&expected), "{shown}");
    }
    let info = fake.run(&format!("info {ID} -o json")).json();
    assert_eq!([&info["waits_for"], &info["skew"]], [&json!(waits_for), &json!([uneven])]);
}

#[test]
fn info_as_json_has_the_promised_fields() {
    let info = with_two_jobs().run("info orders -o json").json();
    let expected = json!({
        "id": SECOND, "name": "orders", "state": "RUNNING", "attempt": 1, "parallelism": 2,
        "processes": [{"taskmanager": "tm-1", "pid": 17, "slots": [0, 1]}],
        "checkpoints": {"completed": 4, "aborted": 1, "last_epoch": 5},
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&info[field], value, "{field}");
    }
}

#[test]
fn a_job_that_is_not_there_is_said_with_the_way_to_find_it() {
    let fake = with_two_jobs();
    let error = fake.run("info nothing").error();
    assert!(
        error.starts_with("Error: no job is called 'nothing', and no job's id begins so; 'tidegate list -a'"),
        "{error}"
    );
    let error = fake.run(&format!("info {}", "e".repeat(32))).error();
    assert!(error.contains("there is nothing at GET"), "the sentence of the jobmanager: {error}");
}

#[test]
fn taskmanagers_are_listed() {
    let taskmanager =
        json!({"id": "tm-1", "pid": 5, "address": "10.0.0.1", "slots": 4, "free": 1, "state": "CONNECTED"});
    let all = json!({"taskmanagers": [taskmanager.clone()]});
    let fake = Fake::start(move |_, _| (200, all.clone()));
    let expected = "\
ID    STATE      SLOTS  FREE  PID  ADDRESS
tm-1  CONNECTED  4      1     5    10.0.0.1
";
    assert_eq!(fake.run("taskmanagers").answer(), expected);
    assert_eq!(fake.run("-o json taskmanagers").json(), json!([taskmanager]));
}

#[test]
fn checkpoints_are_listed_with_the_one_in_flight() {
    let checkpoints = json!({
        "counts": {"completed": 4, "aborted": 1, "last-epoch": 5},
        "in-progress": {"epoch": 6, "phase": "pending", "duration": 12, "missing": [1]},
        "history": [
            {"epoch": 5, "status": "COMPLETED", "trigger-timestamp": 0, "duration": 40, "state-size": 1500, "failure": null},
            {"epoch": 4, "status": "FAILED", "trigger-timestamp": 0, "duration": 9, "state-size": 0, "failure": "disk full"},
        ]
    });
    let fake =
        Fake::start(move |asked, _| answers::job(asked, || details("RUNNING"), || Some(checkpoints.clone())));
    let expected = "\
4 completed, 1 aborted
EPOCH  STATUS     TRIGGERED                DURATION  STATE   REMARK
6      pending    -                        12ms      -       waits for workers 1
5      COMPLETED  1970-01-01 00:00:00 UTC  40ms      1.5 kB
4      FAILED     1970-01-01 00:00:00 UTC  9ms       0 B     disk full
";
    assert_eq!(fake.run(&format!("checkpoints {ID}")).answer(), expected);
    let json = fake.run(&format!("checkpoints {ID} -o json")).json();
    assert_eq!(json["history"][0]["state_size"], json!(1500));
}

/// Every answer has a part of 8 bytes of tm-1's log, and the whole one of tm-2.
fn with_logs(states: &'static [&'static str]) -> Fake {
    Fake::start(move |asked, number| {
        answers::job(
            asked,
            || details(states[number.min(states.len() - 1)]),
            || {
                let text = "one\ntwo\nthree\nfour";
                let from: usize = asked.target.split("from=").nth(1)?.parse().ok()?;
                let log = |taskmanager: &str, text: &str, from: usize, length: usize| {
                    let end = text.len().min(from + length);
                    json!({"taskmanager": taskmanager, "text": &text[from..end], "position": end})
                };
                let tm_1 = log("tm-1", text, from, 8);
                let is_for =
                    |taskmanager: &str| asked.target.contains(&format!("taskmanager={taskmanager}&"));
                match (is_for("tm-1"), is_for("tm-2")) {
                    (true, _) => Some(json!({"logs": [tm_1]})),
                    (_, true) => Some(json!({"logs": [log("tm-2", "five\n", from, 100)]})),
                    _ => Some(json!({"logs": [tm_1, log("tm-2", "five\n", from, 100)]})),
                }
            },
        )
    })
}

#[test]
fn logs_are_whole_lines_of_all_parts() {
    let fake = with_logs(&["RUNNING"]);
    let expected = "tm-1 | one\ntm-1 | two\ntm-1 | three\ntm-2 | five\ntm-1 | four\n";
    assert_eq!(fake.run(&format!("logs {ID}")).answer(), expected);
    assert!(fake.asked()[1].target.ends_with("/logs?attempt=1&from=0"));
}

#[test]
fn a_job_that_has_logged_nothing_is_said() {
    let empty = json!({"logs": [{"taskmanager": "tm-1", "text": "", "position": 0}]});
    let fake =
        Fake::start(move |asked, _| answers::job(asked, || details("RUNNING"), || Some(empty.clone())));
    let ran = fake.run(&format!("logs {ID}"));
    assert_eq!(ran.stderr, "Attempt 1 of the job orders has logged nothing.\n");
    assert_eq!(ran.answer(), "");
}

#[test]
fn logs_are_followed_until_the_job_is_over() {
    let ran = with_logs(&["RUNNING", "RUNNING", "RUNNING", "FINISHED"]).run(&format!("logs -f {ID}"));
    assert_eq!(ran.answer().lines().count(), 5);
}

fn silent(taskmanager: &str, host: &str) -> serde_json::Value {
    json!({"taskmanager": taskmanager, "host": host, "reason": "it is not connected to the jobmanager"})
}

#[test]
fn logs_of_hosts_that_answer_are_printed_and_the_others_named() {
    let fake = Fake::start(|asked, _| {
        let log = |text: &str| json!([{"taskmanager": "tm-1", "text": text, "position": 4}]);
        let logs = log(if asked.target.ends_with("from=0") { "one\n" } else { "" });
        let silent = [silent("tm-2", "10.0.0.2"), silent("tm-3", "")];
        answers::job(asked, || details("RUNNING"), || Some(json!({"logs": logs, "silent": silent})))
    });
    let ran = fake.run(&format!("logs {ID}"));
    let expected = "These taskmanagers could not be asked for their logs: \
                    tm-2 at 10.0.0.2 (it is not connected to the jobmanager), \
                    tm-3 (it is not connected to the jobmanager)\n";
    assert_eq!(ran.stderr, expected);
    assert_eq!(ran.answer(), "tm-1 | one\n");
}

#[test]
fn it_is_an_error_if_no_host_could_be_asked_for_its_log() {
    let nobody = json!({"logs": [], "silent": [silent("tm-2", "10.0.0.2")]});
    for flag in ["", "-f"] {
        let nobody = nobody.clone();
        let fake =
            Fake::start(move |asked, _| answers::job(asked, || details("FAILED"), || Some(nobody.clone())));
        let error = fake.run(&format!("logs {flag} {ID}")).error();
        let expected = "Error: no log of attempt 1 of the job orders could be read, as these taskmanagers could not be asked: \
                        tm-2 at 10.0.0.2 (it is not connected to the jobmanager)\n";
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn a_host_that_is_back_is_followed_again() {
    let fake = Fake::start(|asked, number| {
        answers::job(
            asked,
            || details(if number < 4 { "RUNNING" } else { "FINISHED" }),
            || {
                let log = |taskmanager: &str, text: &str, position: usize| json!([{"taskmanager": taskmanager, "text": text, "position": position}]);
                let is_for =
                    |taskmanager: &str| asked.target.contains(&format!("taskmanager={taskmanager}&"));
                match (is_for("tm-1"), is_for("tm-2")) {
                    (true, _) => Some(json!({"logs": log("tm-1", "", 4), "silent": []})),
                    (_, true) if asked.target.ends_with("from=5") => {
                        Some(json!({"logs": log("tm-2", "", 5), "silent": []}))
                    }
                    (_, true) if number > 0 => Some(json!({"logs": log("tm-2", "back\n", 5), "silent": []})),
                    (_, true) => Some(json!({"logs": [], "silent": [silent("tm-2", "")]})),
                    _ => Some(json!({"logs": log("tm-1", "one\n", 4), "silent": [silent("tm-2", "")]})),
                }
            },
        )
    });
    let ran = fake.run(&format!("logs -f {ID}"));
    assert_eq!(ran.stderr.matches("could not be asked").count(), 1, "{ran:?}");
    assert_eq!(ran.answer(), "tm-1 | one\ntm-2 | back\n");
}

#[test]
fn config_says_where_each_value_is_from() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tidegate.toml"), "[taskmanager]\nslots = 3\n").unwrap();
    let mut command = program(directory.path(), "config -o json --jobmanager a:1");
    let output = command.env("TIDEGATE_TIMEOUTS_LEASE", "7s").output().unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].as_str(), row["from"].as_str())
    };
    assert_eq!(row("taskmanager.slots"), (Some("3"), Some("tidegate.toml, line 2")));
    assert_eq!(row("taskmanager.jobmanager"), (Some("a:1"), Some("--jobmanager")));
    assert_eq!(row("timeouts.lease"), (Some("7s"), Some("TIDEGATE_TIMEOUTS_LEASE in the environment")));
    assert_eq!(row("timeouts.away"), (Some("5m"), Some("default")));
    assert_eq!(row("jobmanager.data"), (None, None));
}
