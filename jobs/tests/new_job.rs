//! `make new`: the project that it makes builds with what is built here, passes its test and runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The target directory that this test itself was built in.
fn target_dir() -> &'static Path {
    let program = Path::new(env!("CARGO_BIN_EXE_predictive-maintenance"));
    program.ancestors().nth(2).expect("programs are in TARGET/PROFILE")
}

/// A directory for a test's files; always the same one, so that cargo does not build for a new place every time.
fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if place.exists() {
        fs::remove_dir_all(&place).expect("the place of an earlier run");
    }
    place
}

fn make_new(job: &str, dir: &Path) -> Output {
    let mut make = Command::new("make");
    make.args(["-s", "-C", ROOT, "new", &format!("JOB={job}"), &format!("DIR={}", dir.display())]);
    make.env("CARGO_TARGET_DIR", target_dir()).output().expect("make runs")
}

/// Runs cargo in the project as its user does: where it builds stands in the project.
fn cargo(project: &Path, arguments: &[&str]) -> String {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(project).env_remove("CARGO_TARGET_DIR");
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_new_project_builds_with_what_is_built_here_passes_its_test_and_runs() {
    let project = place("new-job");
    let made = make_new("slow-pages", &project);
    assert!(made.status.success(), "{}", said(&made));

    let built = cargo(&project, &["build", "--release", "--locked", "--message-format=json"]);
    let messages = built.lines().map(|line| serde_json::from_str::<Value>(line).expect("a message in JSON"));
    let of_rocksdb: Vec<Value> = messages
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["target"]["name"] == "librocksdb_sys")
        .collect();
    assert_eq!(of_rocksdb.len(), 1);
    assert_eq!(of_rocksdb[0]["fresh"], true, "RocksDB was compiled again");

    let tested = cargo(&project, &["test", "--release", "--locked"]);
    assert!(tested.contains("1 passed"), "{tested}");
    let run =
        ["run", "--release", "--locked", "--", "--input", "example", "--output", "out", "--parallelism", "1"];
    cargo(&project, &run);
    let rows = fs::read_to_string(project.join("out/part-0-1.jsonl")).expect("its output");
    assert_eq!(rows.lines().count(), 4, "{rows}");
    assert!(project.join("checkpoints/slow-pages").is_dir());
}

#[test]
fn a_job_can_have_an_allocator_of_its_own() {
    let project = place("new-job-allocator");
    let made = make_new("own-allocator", &project);
    assert!(made.status.success(), "{}", said(&made));
    let change = |file: &str, change: &dyn Fn(String) -> String| {
        let text = fs::read_to_string(project.join(file)).expect("a file of the project");
        fs::write(project.join(file), change(text)).expect("the changed file");
    };
    change("src/main.rs", &|text| {
        let chosen = "ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;";
        assert!(text.contains(chosen), "{text}");
        text.replace(chosen, "ALLOCATOR: std::alloc::System = std::alloc::System;")
    });
    cargo(&project, &["build", "--release", "--locked"]);
}

#[test]
fn make_new_says_what_is_wrong_with_its_arguments() {
    let (nowhere, full) = (place("new-job-nowhere"), place("new-job-full"));
    fs::create_dir_all(&full).expect("a directory");
    fs::write(full.join("mine"), "").expect("a file");
    for (job, dir, problem) in [
        ("", &nowhere, "say what the job is called: make new JOB=my-job"),
        ("My job", &nowhere, "JOB=My job cannot be the name of a crate"),
        ("9to5", &nowhere, "JOB=9to5 cannot be the name of a crate"),
        ("match", &nowhere, "JOB=match is taken"),
        ("demo", &nowhere, "JOB=demo is taken by a program of Tidegate"),
        ("sensor-data", &nowhere, "JOB=sensor-data is taken by a program of Tidegate"),
        ("my-job", &full, "exists and is not empty; nothing was changed"),
    ] {
        let made = make_new(job, dir);
        assert!(!made.status.success(), "JOB={job} was accepted");
        assert!(said(&made).contains(problem), "{}", said(&made));
    }
    assert!(!nowhere.exists());
    assert_eq!(fs::read_dir(&full).expect("the directory").count(), 1);
}
