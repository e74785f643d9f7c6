//! What a user meets at the command line of a job: the end, the stop, the start again, what is refused.

mod support;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use support::{Place, Running, reading, run, said};

const JOB: &str = env!("CARGO_BIN_EXE_predictive-maintenance");
const RULES: &str = env!("CARGO_BIN_EXE_sensor-rules");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model/model.json");
const BASE: [&str; 12] = [
    "--input",
    "in",
    "--output",
    "out",
    "--dead-letters",
    "dead",
    "--model",
    MODEL,
    "--checkpoint-dir",
    "ck",
    "--parallelism",
    "2",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&BASE[..], more].concat()
}

/// Two windows of two devices; the second window closes only at the end of the input.
fn write_readings(place: &Place) {
    for (device, file) in [("a", "in/part-0.jsonl"), ("b", "in/part-1.jsonl")] {
        for minute in 0..10 {
            place.append(file, &reading(device, 1_700_000_100_000 + minute * 60_000, 50.0));
        }
    }
}

#[test]
fn a_bounded_input_ends_with_everything_published_and_a_second_start_does_nothing() {
    let place = Place::new();
    write_readings(&place);
    place.append("in/part-0.jsonl", "no row\n");
    let first = run(&place, JOB, &with(&["--summary", "summary.json"]));
    assert!(first.status.success(), "{}", said(&first));
    assert_eq!(place.rows("out").len(), 4);
    assert_eq!(place.rows("dead").len(), 1);
    let summary = std::fs::read_to_string(place.path("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    for (total, value) in [("rows_in", 21), ("malformed", 1), ("late", 0), ("rows_out", 4), ("restarts", 0)] {
        assert_eq!(summary[total], value, "{total}");
    }
    assert_eq!(summary["dropped"], serde_json::json!({"out_of_range": 0}));
    assert!(summary["checkpoints"].as_u64().is_some_and(|n| n > 0), "{summary}");
    let lines: Vec<_> =
        said(&first).lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "rows in 21",
        "malformed 1",
        "dropped by out_of_range 0",
        "late 0",
        "rows out 4",
        "dead letters 1",
        "restarts 0",
    ] {
        assert!(lines.iter().any(|l| l == line), "no '{line}' in {}", said(&first));
    }

    let second = run(&place, JOB, &with(&["--follow"]));
    assert!(second.status.success());
    assert!(said(&second).contains("finished already"), "{}", said(&second));
    assert!(!said(&second).contains("counts from here on"), "nothing runs: {}", said(&second));
    assert!(!said(&second).contains("grown"), "{}", said(&second));

    place.append("in/part-0.jsonl", &reading("a", 1_700_001_000_000, 50.0));
    place.append("in/part-7.jsonl", &reading("a", 1_700_001_000_000, 50.0));
    let third = run(&place, JOB, &with(&[]));
    assert!(third.status.success());
    assert!(said(&third).contains("part-0.jsonl (longer), part-7.jsonl (new)"), "{}", said(&third));
    assert_eq!(place.rows("out").len(), 4);

    for file in ["part-0.jsonl", "part-1.jsonl", "part-7.jsonl"] {
        std::fs::remove_file(place.path("in").join(file)).unwrap();
    }
    let cleared = run(&place, JOB, &with(&[]));
    assert!(cleared.status.success(), "{}", said(&cleared));
    assert!(said(&cleared).contains("finished already"), "{}", said(&cleared));
    assert!(said(&cleared).contains("there is no partition in"), "{}", said(&cleared));
}

#[test]
fn a_job_prints_its_plan_and_does_not_run() {
    let place = Place::new();
    write_readings(&place);
    let printed = run(&place, JOB, &with(&["--plan", "--max-parallelism", "16"]));
    assert!(printed.status.success(), "{}", said(&printed));
    let plan: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("JSON alone");
    assert_eq!((&plan["job"], &plan["max_parallelism"]), (&"predictive-maintenance".into(), &16.into()));
    let source = &plan["sources"]["readings"];
    assert_eq!(source["bounded"], true);
    assert_eq!(source["partitions"], serde_json::json!(["part-0.jsonl", "part-1.jsonl"]));
    assert_eq!(plan["operators"]["alerts"]["kind"], "sink");
    assert!(plan["operators"]["features"]["state"].is_object(), "{plan}");
    assert_eq!(plan["arguments"]["input"], serde_json::json!(["in"]));
    assert!(!place.path("ck").exists(), "the checkpoint directory is not touched");
    assert_eq!(place.rows("out").len(), 0);
}

#[test]
fn a_summary_that_cannot_be_written_is_refused_before_the_job_runs() {
    let place = Place::new();
    write_readings(&place);
    for file in ["no-such-directory/summary.json", "in"] {
        let refused = run(&place, JOB, &with(&["--summary", file]));
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(
            said(&refused).contains(&format!("--summary {file} cannot be written: ")),
            "{}",
            said(&refused)
        );
        assert!(!place.path("ck").exists(), "the job was started");
    }
    let bad = run(&place, JOB, &with(&["--summary", "summary.json", "--max-parallelism", "1"]));
    assert_eq!(bad.status.code(), Some(1));
    assert!(!place.path("summary.json").exists(), "the check leaves no file behind");
    std::fs::write(place.path("summary.json"), "of an earlier run").unwrap();
    let bad = run(&place, JOB, &with(&["--summary", "summary.json", "--max-parallelism", "1"]));
    assert_eq!(bad.status.code(), Some(1));
    assert!(!place.path("summary.json").exists(), "it would be taken for that of the run that failed");
}

#[test]
fn a_job_whose_messages_nobody_reads_runs_to_its_end() {
    let place = Place::new();
    write_readings(&place);
    for (arguments, code) in [(with(&["--max-parallelism", "1"]), 1), (with(&[]), 0)] {
        let mut job = std::process::Command::new(JOB)
            .args(arguments)
            .current_dir(place.path(""))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(job.stderr.take());
        assert_eq!(job.wait().unwrap().code(), Some(code));
    }
    assert_eq!(place.rows("out").len(), 4);
}

#[test]
fn a_stop_keeps_open_windows_open_and_the_next_start_goes_on() {
    let place = Place::new();
    write_readings(&place);
    let mut job = Running::start(&place, JOB, &with(&["--follow", "--checkpoint-interval", "50ms"]));
    job.until("the first windows", || place.rows("out").len() == 2);
    job.signal(libc::SIGTERM);
    assert!(job.wait().success(), "{}", job.said());
    assert_eq!(place.rows("out").len(), 2, "a stop must not fire windows that are open");
    let rest = run(&place, JOB, &with(&[]));
    assert!(rest.status.success(), "{}", said(&rest));
    assert!(said(&rest).contains("--follow was true and is not given"), "{}", said(&rest));
    assert_eq!(place.rows("out").len(), 4);
}

#[test]
fn a_followed_input_grows_by_lines_and_files() {
    let place = Place::new();
    place.append("in/part-0.jsonl", &reading("a", 1_700_000_100_000, 50.0));
    let mut job = Running::start(&place, JOB, &with(&["--follow", "--checkpoint-interval", "50ms"]));
    job.until("a checkpoint", || place.path("ck/published").exists());
    let (head, tail) = ("{\"device_id\":\"a\",\"timestamp\":17000009", "00000,\"temperature\":1.5,");
    place.append("in/part-0.jsonl", head);
    place.append("in/part-9.jsonl", &("no row\n".to_owned() + &reading("b", 1_700_000_900_000, 50.0)));
    place.append("in/part-0.jsonl", tail);
    place.append("in/part-0.jsonl", "\"vibration\":0.0,\"pressure\":1.0}\n");
    job.until("the first window", || place.rows("out").len() == 1);
    assert_eq!(place.rows("out")[0]["device_id"], "a");
    job.until("the new file", || place.rows("dead").len() == 1);
    for (device, file) in [("a", "in/part-0.jsonl"), ("b", "in/part-9.jsonl")] {
        place.append(file, &reading(device, 1_700_001_500_000, 50.0));
    }
    job.until("a window of the new file", || place.rows("out").iter().any(|row| row["device_id"] == "b"));
    assert_eq!(place.rows("dead").len(), 1, "a line that is still being written is not malformed");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let place = Place::new();
    write_readings(&place);
    let mut job = Running::start(&place, JOB, &with(&["--follow", "--checkpoint-interval", "50ms"]));
    job.until("a checkpoint", || place.path("ck/published").exists());
    let second = run(&place, JOB, &with(&["--follow"]));
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("is in use by process"), "{}", said(&second));
    // Another checkpoint directory does not make the output another.
    let mut others = with(&["--follow"]);
    others[9] = "ck-2";
    let third = run(&place, JOB, &others);
    assert_eq!(third.status.code(), Some(1));
    assert!(said(&third).contains("is being written by another run"), "{}", said(&third));
    job.signal(libc::SIGINT);
    assert!(job.wait().success());
}

/// The staged files of a directory.
fn staged(place: &Place, name: &str) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(place.path(name)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".staged")).collect()
}

#[test]
fn a_snapshot_whose_staged_output_is_damaged_falls_back() {
    let place = Place::new();
    place.append("in/part-0.jsonl", &reading("a", 1_700_000_100_000, 50.0));
    let followed = with(&["--follow", "--checkpoint-interval", "50ms"]);
    let dies = [("FAILPOINTS", "sink.before_rename=return")];
    let mut job = Running::start_with(&place, JOB, &followed, &dies);
    job.until("a checkpoint without output", || place.path("ck/published").exists());
    place.append("in/part-0.jsonl", &reading("a", 1_700_000_900_000, 50.0));
    assert!(!job.wait().success(), "it dies on its way to publishing the first window");
    let [staged] = staged(&place, "out").try_into().expect("one piece of output");
    let mut bytes = std::fs::read(&staged).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&staged, bytes).unwrap();
    let rest = run(&place, JOB, &with(&[]));
    assert!(rest.status.success(), "{}", said(&rest));
    assert!(said(&rest).contains("is not used") && said(&rest).contains("falling back"), "{}", said(&rest));
    assert_eq!(place.rows("out").len(), 2);
}

#[test]
fn a_second_signal_ends_a_job_at_once() {
    let place = Place::new();
    write_readings(&place);
    let hangs = [("FAILPOINTS", "snapshot.staged=sleep(600000)")];
    let mut job = Running::start_with(&place, JOB, &with(&["--follow"]), &hangs);
    job.until("the start", || job_has_said(&place, "attempt 1"));
    job.signal(libc::SIGINT);
    job.until("the stop", || job_has_said(&place, "stopping"));
    job.signal(libc::SIGINT);
    assert_eq!(job.wait().code(), Some(128 + libc::SIGINT), "{}", job.said());
}

fn job_has_said(place: &Place, text: &str) -> bool {
    std::fs::read_to_string(place.path("stderr")).unwrap_or_default().contains(text)
}

#[test]
fn another_output_or_job_is_refused_and_another_model_is_told() {
    let place = Place::new();
    write_readings(&place);
    let mut job = Running::start(&place, JOB, &with(&["--follow", "--checkpoint-interval", "50ms"]));
    job.until("a checkpoint", || place.path("ck/published").exists());
    job.signal(libc::SIGINT);
    assert!(job.wait().success());

    let mut elsewhere = with(&[]);
    elsewhere[3] = "out-2";
    let refused = run(&place, JOB, &elsewhere);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("'alerts' wrote to"), "{}", said(&refused));

    let rules =
        ["--input", "in", "--rules", "in", "--output", "o", "--dead-letters", "d", "--checkpoint-dir", "ck"];
    let refused = run(&place, RULES, &rules);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("snapshots of the job 'predictive-maintenance'"), "{}", said(&refused));

    let ubj = MODEL.replace(".json", ".ubj");
    let mut retrained = with(&[]);
    retrained[7] = &ubj;
    let told = run(&place, JOB, &retrained);
    assert!(told.status.success(), "{}", said(&told));
    assert!(
        said(&told).contains("--model was") && said(&told).contains("counts from here on"),
        "{}",
        said(&told)
    );
    assert_eq!(place.rows("out").len(), 4);
}

#[test]
fn bad_arguments_get_a_sentence_and_no_panic() {
    let place = Place::new();
    for (arguments, answer) in [
        (with(&[]), "cannot list the partitions in in; it must be a directory that can be read"),
        (vec!["--parallelism", "0"], "it must be at least 1"),
        (vec!["--memory", "-5MB"], "it must be at least 1MB"),
        (vec!["--metrics", "9399"], "it must be a host and a port"),
        (with(&["--memory", "12 parsecs"]), "is not a size"),
        (with(&["--checkpoint-interval", "0s"]), "at least 1ms"),
        (vec!["--input", "in"], "required"),
    ] {
        let output = run(&place, JOB, &arguments);
        assert!(!output.status.success());
        assert!(said(&output).contains(answer), "{}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
    // A path need not be UTF-8.
    let mut command = std::process::Command::new(JOB);
    command.args(with(&["--summary"])).arg(OsStr::from_bytes(b"summary-\xff")).current_dir(place.path(""));
    let output = command.output().expect("the program starts");
    assert!(said(&output).contains("cannot list the partitions in in"), "{}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    write_readings(&place);
    for taken in ["out", "dead"] {
        let arguments = BASE.map(|argument| if argument == "ck" { taken } else { argument });
        let output = run(&place, JOB, &arguments);
        assert_eq!(output.status.code(), Some(1));
        let answer = format!("{taken}, which belongs to the checkpoint directory");
        assert!(said(&output).contains(&answer), "{}", said(&output));
    }
    let output = run(&place, JOB, &with(&["--max-parallelism", "1"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("at most --max-parallelism, which is 1"), "{}", said(&output));
}

#[test]
fn metrics_are_served_while_the_job_runs() {
    let place = Place::new();
    write_readings(&place);
    // A port of our own choosing could be taken; one that was just free almost never is.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = with(&["--follow", "--checkpoint-interval", "50ms", "--metrics", &free]);
    let mut job = Running::start(&place, JOB, &arguments);
    job.until("the first windows", || place.rows("out").len() == 2);
    place.append("in/part-0.jsonl", "no row\n");
    place.append("in/part-0.jsonl", &reading("a", 1_700_000_650_000, 500.0));
    place.append("in/part-0.jsonl", &reading("a", 1_700_000_100_000, 50.0));
    let totals = [
        ("records_in", "readings", 23.0),
        ("malformed", "readings", 1.0),
        ("dropped", "out_of_range", 1.0),
        ("records_in", "features", 21.0),
        ("late", "features", 1.0),
        ("records_out", "features", 2.0),
        ("records_out", "alerts", 2.0),
        ("records_out", "readings.dead_letters", 1.0),
    ];
    let by_operator = ["watermark_ms", "state_entries"];
    let by_host = ["busy_microseconds", "blocked_microseconds", "alignment_microseconds"];
    let by_worker = ["checkpoint_bytes", "checkpoint_worker_seconds"];
    let mut last = String::new();
    job.until("all metrics", || {
        last = metrics(&free).unwrap_or_default();
        let is = |name: &str, labels: &str| samples(&last, name, labels).len() == 2;
        let total = |(name, operator, value): &(&str, &str, f64)| {
            let values = samples(&last, &format!("{name}_total"), &format!("operator=\"{operator}\""));
            values.len() == 2 && values.iter().sum::<f64>() == *value
        };
        totals.iter().all(total)
            && is("watermark_ms", "operator=\"event_time-1\"")
            && by_operator.iter().all(|name| is(name, "operator=\"features\""))
            && by_host.iter().all(|name| !samples(&last, name, "operator=").is_empty())
            && by_worker.iter().all(|name| is(name, "worker="))
            && ["epoch", "checkpoint_seconds"].iter().all(|name| samples(&last, name, "job=")[..].len() == 1)
    });
    // Started again, it shows where event time is, though no new record moves it.
    job.signal(libc::SIGTERM);
    assert!(job.wait().success(), "{}", job.said());
    let mut job = Running::start(&place, JOB, &arguments);
    job.until("the watermarks of before", || {
        last = metrics(&free).unwrap_or_default();
        ["event_time-1", "features"]
            .iter()
            .all(|operator| samples(&last, "watermark_ms", &format!("operator=\"{operator}\"")).len() == 2)
    });
}

/// The values of a metric with these labels, one a worker.
fn samples(text: &str, name: &str, labels: &str) -> Vec<f64> {
    let start = format!("tidegate_{name}{{");
    let lines = text.lines().filter(|line| line.starts_with(&start) && line.contains(labels));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_terminal_gets_a_line_that_is_kept_up_to_date() {
    use std::os::fd::FromRawFd;
    let place = Place::new();
    write_readings(&place);
    let (mut near, mut far) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: the two numbers are written to, and nothing else is given.
    assert_eq!(unsafe { libc::openpty(&raw mut near, &raw mut far, none, none.cast(), none.cast()) }, 0);
    // SAFETY: both are open and belong to nobody else.
    let (mut screen, stderr) = unsafe { (std::fs::File::from_raw_fd(near), std::fs::File::from_raw_fd(far)) };
    let mut job = std::process::Command::new(JOB)
        .args(with(&["--follow", "--checkpoint-interval", "50ms"]))
        .current_dir(place.path(""))
        // A terminal that calls itself dumb gets no such line.
        .env("TERM", "xterm")
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    let line = "20 rows  0 rows/s  out 0/s  watermark 2023-11-14 22:23:5";
    // A job that shows no such line ends the test by its own time limit: reading waits for the next bytes.
    while !String::from_utf8_lossy(&shown).contains(line) {
        let mut bytes = [0; 1024];
        let read = screen.read(&mut bytes).unwrap();
        shown.extend_from_slice(&bytes[..read]);
        assert!(shown.len() < 200_000, "{}", String::from_utf8_lossy(&shown));
    }
    job.kill().unwrap();
    job.wait().unwrap();
}

fn metrics(address: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
