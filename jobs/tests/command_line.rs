//! What a user meets at the command line of a job: the end, the stop, the start again, what is refused.

mod support;

use std::io::{Read, Write};

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
    assert_eq!((&summary["rows_in"], &summary["malformed"]), (&21.into(), &1.into()));

    let second = run(&place, JOB, &with(&[]));
    assert!(second.status.success());
    assert!(said(&second).contains("finished already"), "{}", said(&second));
    assert!(!said(&second).contains("grown"), "{}", said(&second));

    place.append("in/part-0.jsonl", &reading("a", 1_700_001_000_000, 50.0));
    place.append("in/part-7.jsonl", &reading("a", 1_700_001_000_000, 50.0));
    let third = run(&place, JOB, &with(&[]));
    assert!(third.status.success());
    assert!(said(&third).contains("part-0.jsonl (longer), part-7.jsonl (new)"), "{}", said(&third));
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
    place.append("in/part-9.jsonl", &reading("b", 1_700_000_900_000, 50.0));
    place.append("in/part-0.jsonl", tail);
    place.append("in/part-0.jsonl", "\"vibration\":0.0,\"pressure\":1.0}\n");
    job.until("the first window", || place.rows("out").len() == 1);
    assert_eq!(place.rows("out")[0]["device_id"], "a");
    assert!(place.rows("dead").is_empty(), "a line that is still being written is not malformed");
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
        (with(&[]), "in"),
        (with(&["--memory", "12 parsecs"]), "no unit of size"),
        (with(&["--checkpoint-interval", "0s"]), "at least 1ms"),
        (vec!["--input", "in"], "required"),
    ] {
        let output = run(&place, JOB, &arguments);
        assert!(!output.status.success());
        assert!(said(&output).contains(answer), "{}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
}

#[test]
fn metrics_are_served_while_the_job_runs() {
    let place = Place::new();
    write_readings(&place);
    // A port of our own choosing could be taken; one that was just free almost never is.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut job = Running::start(
        &place,
        JOB,
        &with(&["--follow", "--checkpoint-interval", "50ms", "--metrics", &free]),
    );
    let names = ["records_in", "dropped", "late"].map(|name| format!("tidegate_{name}_total{{"));
    let gauges = ["watermark_ms", "alignment_microseconds", "epoch"].map(|name| format!("tidegate_{name}{{"));
    job.until("all metrics", || {
        let text = metrics(&free).unwrap_or_default();
        names.iter().chain(&gauges).all(|name| text.contains(name))
    });
}

fn metrics(address: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
