//! What is said when the cluster cannot be reached or used, and when nobody reads the answer.

use std::process::Stdio;

use serde_json::json;
use tidegate_access::Secret;

use crate::answers::{ID, summary};
use crate::fake::{Fake, Ran, program};

#[test]
fn another_secret_or_none_is_refused_with_the_reason() {
    let fake = Fake::start(|_, _| (200, json!({"jobs": []})));
    Secret::create(&fake.path().join("another")).unwrap();
    let error = fake.run("list --secret-file another").error();
    assert!(error.contains("refuses the cluster secret"), "{error}");
    let error = fake.run("list --secret-file /dev/null").error();
    assert!(error.contains("the secret file /dev/null cannot be used"), "{error}");
    let error = Ran::of(program(fake.path(), "list").output().unwrap()).error();
    assert!(
        error.starts_with("Error: the secret of the cluster is not known: give --secret-file FILE or "),
        "{error}"
    );
}

#[test]
fn a_cluster_that_is_not_there_is_said_with_its_address() {
    let fake = Fake::start(|_, _| (200, json!(null)));
    let error = fake.run("list --jobmanager 127.0.0.1:1").error();
    assert!(error.contains("127.0.0.1:1") && error.contains("--jobmanager"), "{error}");
}

#[test]
fn a_wrong_command_line_has_an_exit_code_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    for line in ["", "nothing", "info", "rescale x -p 0", "run -D x job", "taskmanager --slots many"] {
        let ran = Ran::of(program(directory.path(), line).output().unwrap());
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{line}: {ran:?}");
    }
}

#[test]
fn a_mistake_in_the_configuration_file_is_said_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tidegate.toml"), "[taskmanager]\nslot = 3\n").unwrap();
    let error = Ran::of(program(directory.path(), "config").output().unwrap()).error();
    assert_eq!(
        error,
        "Error: tidegate.toml, line 2: there is no key 'slot' in [taskmanager]; did you mean 'slots'?\n"
    );
    let error = Ran::of(program(directory.path(), "config --config none.toml").output().unwrap()).error();
    assert!(error.starts_with("Error: the configuration file none.toml cannot be read: "), "{error}");
}

#[test]
fn a_reader_that_is_gone_is_no_error() {
    let fake = Fake::start(|_, _| {
        let jobs: Vec<_> = (0..5000).map(|_| summary(ID, "orders", "RUNNING")).collect();
        (200, json!({"jobs": jobs}))
    });
    for line in ["list", "list -o json", "completions bash", "config"] {
        let mut child = fake.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{line}: {output:?}");
    }
}

#[test]
fn a_shell_gets_a_script() {
    let directory = tempfile::tempdir().unwrap();
    let ran = Ran::of(program(directory.path(), "completions bash").output().unwrap());
    assert!(ran.answer().contains("savepoint"));
}

#[test]
fn a_daemon_that_lacks_something_says_what() {
    let directory = tempfile::tempdir().unwrap();
    for (line, expected) in [
        ("jobmanager", "jobmanager.data is not set: give --data, "),
        ("taskmanager", "taskmanager.data is not set: give --data, "),
        ("jobmanager --peers a:1,b:2", "several jobmanagers are not supported yet"),
        ("taskmanager --data d --listen 0.0.0.0", "name the secret file of the cluster"),
    ] {
        let error = Ran::of(program(directory.path(), line).output().unwrap()).error();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
