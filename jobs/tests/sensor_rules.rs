//! The job `sensor-rules`: breaches that last, rules that change, a kill in between.

mod support;

use support::{Place, Running, reading, run, said};

const JOB: &str = env!("CARGO_BIN_EXE_sensor-rules");
const ARGUMENTS: [&str; 14] = [
    "--input",
    "in",
    "--rules",
    "rules",
    "--output",
    "out",
    "--dead-letters",
    "dead",
    "--checkpoint-dir",
    "ck",
    "--parallelism",
    "2",
    "--checkpoint-interval",
    "30ms",
];
const START: i64 = 1_700_000_000_000;

fn events(place: &Place) -> Vec<(String, String, String)> {
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut events: Vec<_> = place
        .rows("out")
        .iter()
        .map(|row| (text(row, "device_id"), text(row, "rule_id"), text(row, "event")))
        .collect();
    events.sort();
    events
}

fn event(device: &str, rule: &str, event: &str) -> (String, String, String) {
    (device.to_owned(), rule.to_owned(), event.to_owned())
}

/// Readings of device `a`, one a second.
fn heat(place: &Place, seconds: std::ops::Range<i64>, temperature: f64) {
    for second in seconds {
        place.append("in/part-0.jsonl", &reading("a", START + second * 1000, temperature));
    }
}

#[test]
fn a_breach_is_told_when_it_lasts_and_when_it_ends_across_a_kill() {
    let place = Place::new();
    place.append("rules/part-0.jsonl", "{\"rule_id\":\"hot\",\"above\":80.0,\"for_ms\":10000}\n");
    place.append("in/part-0.jsonl", &reading("a", START, 20.0));
    let arguments = [&ARGUMENTS[..], &["--follow"]].concat();
    let mut job = Running::start(&place, JOB, &arguments);
    // Once both first rows are part of a snapshot, the rule counts for all that follows.
    job.until("the rule", || rows_in_snapshot(&place) >= 2);

    // Too short, then long enough; the alert needs the watermark to pass its time.
    heat(&place, 1..9, 90.0);
    heat(&place, 9..12, 20.0);
    heat(&place, 12..30, 90.0);
    job.until("the alert", || events(&place) == [event("a", "hot", "entered")]);

    job.signal(libc::SIGKILL);
    job.wait();
    heat(&place, 30..32, 20.0);
    let mut job = Running::start(&place, JOB, &arguments);
    let both = [event("a", "hot", "entered"), event("a", "hot", "left")];
    job.until("its end", || events(&place) == both);

    // A rule that comes while the job runs.
    place.append("rules/part-0.jsonl", "{\"rule_id\":\"warm\",\"above\":30.0,\"for_ms\":5000}\n{oops}\n");
    job.until("the dead letter behind the new rule", || place.rows("dead/rules").len() == 1);
    heat(&place, 32..50, 40.0);
    job.until("the new rule's alert", || events(&place).contains(&event("a", "warm", "entered")));
    job.signal(libc::SIGINT);
    assert!(job.wait().success(), "{}", job.said());
    assert_eq!(events(&place).len(), 3);
}

fn rows_in_snapshot(place: &Place) -> u64 {
    let Ok(entries) = std::fs::read_dir(place.path("ck")) else { return 0 };
    let paths = entries.map(|e| e.expect("an entry").path());
    let newest = paths.filter(|p| p.extension().is_some_and(|e| e == "json")).max();
    let text = newest.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let Some(json) = text.lines().nth(1) else { return 0 };
    let manifest: serde_json::Value = serde_json::from_str(json).expect("a manifest");
    let slots = manifest["slots"].as_object().expect("slots").values();
    let counters = |slot: &serde_json::Value| {
        let rows = |uid: &str| slot["operators"][uid]["counters"]["records_in"].as_u64().unwrap_or(0);
        rows("readings") + rows("rules")
    };
    slots.map(counters).sum()
}

#[test]
fn a_rule_that_is_no_rule_is_a_dead_letter() {
    let place = Place::new();
    place.append("rules/part-0.jsonl", "{\"above\":1}\n");
    place.append("in/part-0.jsonl", &reading("a", START, 20.0));
    let output = run(&place, JOB, &ARGUMENTS);
    assert!(output.status.success(), "{}", said(&output));
    let letters = place.rows("dead/rules");
    assert_eq!(letters.len(), 1);
    assert!(letters[0]["error"].as_str().unwrap().contains("rule_id"), "{}", letters[0]);
}
