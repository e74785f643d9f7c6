//! `run`: what is sent, how a job is followed, and how the command ends.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::answers::{details, not_found, with};
use crate::fake::{Answer, Asked, Fake, Ran, executable};

/// A jobmanager that takes every job, and then tells these things of it, one after the other.
fn that_runs(told: Vec<Value>) -> Fake {
    Fake::start(move |asked, number| {
        submitted(asked).unwrap_or_else(|| (200, told[number.min(told.len() - 1)].clone()))
    })
}

fn submitted(asked: &Asked) -> Option<Answer> {
    match (&*asked.method, &*asked.target) {
        ("POST", target) if target.starts_with("/v1/executables?sha256=") => {
            Some((200, json!({"id": "abc", "bytes": asked.body.len()})))
        }
        ("POST", "/v1/executables/abc/run") => Some((200, json!({"jobid": asked.json()["jobid"]}))),
        ("GET", target) if target.starts_with("/v1/jobs/") => None,
        _ => Some(not_found(asked)),
    }
}

/// The id in the line that says it.
fn id_of(stdout: &str) -> &str {
    let id = stdout.strip_prefix("Job has been submitted with JobID ").unwrap().trim_end();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{stdout}");
    id
}

#[test]
fn a_detached_run_sends_everything_and_prints_the_id() {
    let fake = that_runs(Vec::new());
    executable(&fake);
    let line = "run -d -p 3 -s snapshots/1 -n -D checkpoint.interval=200ms -D restart.limit=2 --name mine job -- --input x";
    let stdout = fake.run(line).answer();
    let [upload, run] = &fake.asked()[..] else { panic!("{:?}", fake.asked()) };
    assert_eq!(upload.body, b"the content of a job");
    // printf 'the content of a job' | sha256sum
    let digest = "e08a44f07dfc0ec36cd511c31634e78b28a45c71f0df84e075c8ccaa2501735d";
    assert_eq!(upload.target, format!("/v1/executables?sha256={digest}"));
    let directory = fake.path().canonicalize().unwrap();
    let expected = json!({
        "jobid": id_of(&stdout), "executable": "job", "directory": directory, "arguments": ["--input", "x"], "parallelism": 3,
        "auto-parallelism": false,
        "snapshot": directory.join("snapshots/1"), "allow-non-restored-state": true,
        "settings": {"checkpoint.interval": "200ms", "restart.limit": "2"}, "name": "mine"
    });
    assert_eq!(run.json(), expected);
}

#[test]
fn a_detached_run_may_answer_in_json() {
    let fake = that_runs(Vec::new());
    executable(&fake);
    let answer = fake.run("run -d job -o json").json();
    assert_eq!(answer["id"], fake.asked()[1].json()["jobid"]);
}

#[test]
fn a_run_follows_the_job_to_its_end() {
    let waiting = with(details("CREATED"), json!({"attempt": 0, "waits-for": "waits for 2 more slots"}));
    let fake = that_runs(vec![waiting, details("RUNNING"), details("FINISHED")]);
    executable(&fake);
    let ran = fake.run("run job");
    let expected =
        "orders CREATED: waits for 2 more slots\norders RUNNING, attempt 1\nJob orders has finished.\n";
    assert_eq!((&*ran.stderr, ran.code), (expected, Some(0)));
    id_of(&ran.stdout);
}

#[test]
fn a_run_says_why_attempts_fail_and_checkpoints_are_aborted() {
    let failure = json!({"attempt": 3, "cause": "write /out/x: disk full", "timestamp": 0});
    let restarting = |seconds: &str| {
        let waits_for = format!("the next attempt starts in {seconds} s");
        let changes = json!({"attempt": 3, "waits-for": waits_for, "failure": failure.clone()});
        with(details("RESTARTING"), changes)
    };
    let aborted = |epoch: u32| {
        let waits_for =
            format!("a checkpoint that is complete; the checkpoint of epoch {epoch} was aborted: disk full");
        with(details("RUNNING"), json!({"attempt": 4, "waits-for": waits_for, "failure": failure.clone()}))
    };
    let told = [restarting("0.2"), restarting("0.1"), aborted(5), aborted(6), details("FINISHED")];
    let fake = that_runs(told.to_vec());
    executable(&fake);
    let expected = "\
orders RESTARTING, attempt 3: the next attempt starts in 0.2 s; attempt 3 has failed: write /out/x: disk full
orders RUNNING, attempt 4: a checkpoint that is complete; the checkpoint of epoch 5 was aborted: disk full
Job orders has finished.
";
    assert_eq!(fake.run("run job").stderr, expected);
}

#[test]
fn a_run_of_a_job_that_fails_or_is_cancelled_says_so_by_its_exit_code() {
    let failure = json!({"failure": {"attempt": 3, "cause": "step 'parse': no such field", "timestamp": 0}});
    let fake = that_runs(vec![with(details("FAILED"), failure)]);
    executable(&fake);
    let ran = fake.run("run job");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("Error: the job orders has failed: step 'parse': no such field\n"),
        "{ran:?}"
    );
    let fake = that_runs(vec![details("CANCELED")]);
    executable(&fake);
    let ran = fake.run("run job");
    assert_eq!((&*ran.stderr, ran.code), ("Job orders was cancelled.\n", Some(2)));
}

#[test]
fn ctrl_c_leaves_the_job_running_and_says_how_to_reach_it() {
    let fake = that_runs(vec![details("RUNNING")]);
    executable(&fake);
    let mut child = fake.command("run job").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The command follows the job when it has shown its state.
    let mut first = [0; 6];
    child.stderr.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let ran = Ran::of(child.wait_with_output().unwrap());
    let id = id_of(&ran.stdout);
    assert_eq!(ran.code, Some(130));
    for command in ["info", "stop", "cancel"] {
        assert!(ran.stderr.contains(&format!("'tidegate {command} {id}'")), "{ran:?}");
    }
    assert!(fake.asked().iter().all(|asked| asked.method != "PATCH"));
}

#[test]
fn a_jobmanager_that_refuses_for_a_while_is_waited_for() {
    let fake = Fake::start(|asked, number| {
        submitted(asked).unwrap_or_else(|| match number {
            0 => (503, json!({"error": "starting"})),
            _ => (200, details("FINISHED")),
        })
    });
    executable(&fake);
    let ran = fake.run("run job");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("waiting for the jobmanager, which does not answer\n"), "{ran:?}");
}

#[test]
fn an_executable_that_cannot_be_used_is_refused() {
    let fake = Fake::start(|asked, _| match submitted(asked) {
        Some((200, _)) if asked.target.ends_with("/run") => {
            (409, json!({"error": "job is no Tidegate job: it printed no plan"}))
        }
        Some(answer) => answer,
        None => not_found(asked),
    });
    let error = fake.run("run -d missing").error();
    assert!(error.starts_with("Error: the executable missing cannot be read: "), "{error}");
    executable(&fake);
    assert_eq!(fake.run("run -d job").error(), "Error: job is no Tidegate job: it printed no plan\n");
}
