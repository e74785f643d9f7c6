//! Verbs that change a job: `savepoint`, `stop`, `cancel`, `rescale`.

use serde_json::{Value, json};

use crate::answers::{self, ID, details, with};
use crate::fake::Fake;

fn operation(status: &str, location: Option<&str>, failure: Option<&str>) -> Value {
    json!({"status": status, "waits-for": null, "location": location, "failure-cause": failure})
}

/// A job with these states one after the other, and an operation that is complete at the second look.
fn with_operation(states: &'static [&'static str], over: Value) -> Fake {
    Fake::start(move |asked, number| {
        answers::job(
            asked,
            || details(states[number.min(states.len() - 1)]),
            || match (&*asked.method, asked.target.rsplit('/').next()?) {
                ("POST", "savepoints" | "stop") => Some(json!({"request-id": "7"})),
                ("GET", "7") if number == 0 => {
                    Some(with(operation("IN_PROGRESS", None, None), json!({"waits-for": "epoch 6"})))
                }
                ("GET", "7") => Some(over.clone()),
                _ => None,
            },
        )
    })
}

#[test]
fn a_savepoint_is_waited_for_and_its_path_printed() {
    let fake = with_operation(&["RUNNING"], operation("COMPLETED", Some("file:///s/1"), None));
    let ran = fake.run(&format!("savepoint {ID} sub/dir"));
    assert_eq!(ran.stderr, "waiting for the savepoint: epoch 6\n");
    assert_eq!(ran.answer(), "file:///s/1\n");
    let directory = fake.path().canonicalize().unwrap().join("sub/dir");
    assert_eq!(fake.asked_by("POST").json(), json!({"target-directory": directory}));
    let fake = with_operation(&["RUNNING"], operation("COMPLETED", Some("file:///s/1"), None));
    assert_eq!(fake.run(&format!("savepoint {ID} -o json")).json(), json!({"path": "file:///s/1"}));
    assert_eq!(fake.asked_by("POST").json(), json!({"target-directory": null}));
}

/// What an operation waits for, at every look another text with other numbers, until it is complete.
fn with_reasons(state: &'static str) -> Fake {
    Fake::start(move |asked, number| {
        answers::job(
            asked,
            || details(if number < 5 { state } else { "FINISHED" }),
            || match (&*asked.method, asked.target.rsplit('/').next()?) {
                ("POST", "savepoints" | "stop") => Some(json!({"request-id": "7"})),
                ("GET", "7") if number < 4 => {
                    let reason = format!(
                        "the checkpoint of epoch 1{number} was aborted: write /s/{number}: disk full"
                    );
                    Some(with(operation("IN_PROGRESS", None, None), json!({"waits-for": reason})))
                }
                ("GET", "7") => Some(operation("COMPLETED", Some("/s/1"), None)),
                _ => None,
            },
        )
    })
}

#[test]
fn what_keeps_a_savepoint_or_a_stop_waiting_is_said_once() {
    let reason = "the checkpoint of epoch 10 was aborted: write /s/0: disk full";
    let ran = with_reasons("RUNNING").run(&format!("savepoint {ID}"));
    assert_eq!(ran.stderr, format!("waiting for the savepoint: {reason}\n"));
    let ran = with_reasons("STOPPING").run(&format!("stop {ID}"));
    assert!(ran.stderr.starts_with(&format!("waiting until orders is over: {reason}\n")), "{ran:?}");
    assert_eq!(ran.stderr.matches("disk full").count(), 1, "{ran:?}");
}

#[test]
fn a_savepoint_that_fails_is_an_error() {
    let fake =
        with_operation(&["RUNNING"], operation("COMPLETED", None, Some("cannot write to /s: disk full")));
    let error = fake.run(&format!("savepoint {ID}")).error();
    assert!(
        error.ends_with(&format!(
            "Error: no savepoint of the job {ID} was made: cannot write to /s: disk full\n"
        )),
        "{error}"
    );
}

#[test]
fn stop_waits_until_the_job_is_over() {
    let fake = with_operation(&["RUNNING", "STOPPING", "FINISHED"], operation("COMPLETED", None, None));
    let ran = fake.run(&format!("stop --drain {ID}"));
    assert_eq!(fake.asked_by("POST").json(), json!({"drain": true, "target-directory": null}));
    assert!(ran.stderr.starts_with("waiting until orders is over: epoch 6\n"), "{ran:?}");
    assert_eq!(ran.answer(), format!("Job orders ({ID}) has finished.\n"));
}

#[test]
fn stop_with_a_savepoint_prints_its_path() {
    let fake = with_operation(&["FINISHED"], operation("COMPLETED", Some("/s/1"), None));
    assert_eq!(fake.run(&format!("stop --savepoint-path /s {ID}")).answer(), "/s/1\n");
    let stopped = json!({"id": ID, "state": "FINISHED", "path": "/s/1"});
    assert_eq!(fake.run(&format!("stop --savepoint-path /s {ID} -o json")).json(), stopped);
}

#[test]
fn a_stop_that_fails_is_an_error_while_the_job_goes_on() {
    let fake = with_operation(&["RUNNING"], operation("COMPLETED", None, Some("disk full")));
    let error = fake.run(&format!("stop {ID}")).error();
    assert!(
        error.ends_with(&format!("Error: the job orders ({ID}) was not stopped: disk full\n")),
        "{error}"
    );
    let fake = with_operation(&["FINISHED"], operation("COMPLETED", None, Some("disk full")));
    let error = fake.run(&format!("stop --savepoint-path /s {ID}")).error();
    assert!(
        error.contains("has stopped, but without a savepoint: disk full; its last checkpoint is in"),
        "{error}"
    );
    let fake = with_operation(&["CANCELED"], operation("COMPLETED", None, Some("cancelled")));
    let error = fake.run(&format!("stop {ID}")).error();
    assert!(error.contains("is CANCELED instead of FINISHED"), "{error}");
}

#[test]
fn a_stop_outlives_a_restart_of_the_jobmanager_which_forgets_it() {
    let fake = Fake::start(|asked, number| {
        let states = ["STOPPING", "STOPPING", "FINISHED"];
        let triggered = || (asked.method == "POST").then(|| json!({"request-id": "7"}));
        answers::job(asked, || details(states[number.min(2)]), triggered)
    });
    assert_eq!(fake.run(&format!("stop {ID}")).answer(), format!("Job orders ({ID}) has finished.\n"));
}

#[test]
fn cancel_waits_until_the_job_is_over() {
    let fake = Fake::start(|asked, number| {
        let states = ["RUNNING", "CANCELED"];
        answers::job(asked, || details(states[number.min(1)]), || Some(json!({})))
    });
    assert_eq!(fake.run(&format!("cancel {ID}")).answer(), format!("Job orders ({ID}) is CANCELED.\n"));
    assert_eq!(fake.asked_by("PATCH").target, format!("/v1/jobs/{ID}?mode=cancel"));
    assert_eq!(fake.run(&format!("cancel {ID} -o json")).json(), json!({"id": ID, "state": "CANCELED"}));
}

/// A job that runs with 2 workers, restarts, and runs with 4.
fn that_rescales() -> Fake {
    let processes = json!([{"taskmanager": "a", "pid": 1, "slots": [0, 1]}, {"taskmanager": "b", "pid": 2, "slots": [2, 3]}]);
    let told = [
        with(details("RUNNING"), json!({"parallelism": 4})),
        with(details("RESTARTING"), json!({"parallelism": 4, "processes": []})),
        with(details("RUNNING"), json!({"parallelism": 4, "attempt": 2, "processes": processes})),
    ];
    Fake::start(move |asked, number| {
        answers::job(
            asked,
            || told[number.min(2)].clone(),
            || asked.target.ends_with("/resource-requirements").then(|| json!({"parallelism": 4})),
        )
    })
}

#[test]
fn rescale_waits_until_the_new_workers_run() {
    let fake = that_rescales();
    let ran = fake.run(&format!("rescale {ID} -p 4"));
    assert_eq!(
        ran.stderr,
        "orders RUNNING, attempt 1\norders RESTARTING, attempt 1\norders RUNNING, attempt 2\n"
    );
    assert_eq!(ran.answer(), format!("Job orders ({ID}) runs with parallelism 4, attempt 2.\n"));
    let put = fake.asked_by("PUT");
    assert_eq!(put.target, format!("/v1/jobs/{ID}/resource-requirements"));
    assert_eq!(put.json(), json!({"parallelism": 4, "auto": false}));
    let detached = that_rescales().run(&format!("rescale {ID} -d -p 4")).answer();
    assert_eq!(detached, format!("Job orders ({ID}) is to run with parallelism 4.\n"));
}

#[test]
fn rescale_ends_when_another_one_takes_its_place() {
    let fake = Fake::start(|asked, _| {
        let parallelism = if asked.method == "PUT" { 4 } else { 3 };
        answers::job(asked, || details("RESTARTING"), || Some(json!({"parallelism": parallelism})))
    });
    let error = fake.run(&format!("rescale {ID} -p 4")).error();
    let expected = format!(
        "Error: another command has changed the parallelism of the job orders ({ID}) to 3 meanwhile\n"
    );
    assert!(error.ends_with(&expected), "{error}");
}

#[test]
fn rescale_ends_when_the_job_does() {
    let fake = Fake::start(|asked, _| {
        answers::job(asked, || details("FINISHED"), || Some(json!({"parallelism": 4})))
    });
    let error = fake.run(&format!("rescale {ID} -p 4")).error();
    assert!(error.ends_with(&format!("Error: the job orders ({ID}) is FINISHED\n")), "{error}");
}
