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

/// What was told, in the order of time, each with `since` and `at` in milliseconds after [`START`].
type Event = (String, String, String, i64, i64);

fn events(place: &Place) -> Vec<Event> {
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let ms = |row: &serde_json::Value, key: &str| row[key].as_i64().expect("a time") - START;
    let event = |row| {
        (text(row, "device_id"), text(row, "rule_id"), text(row, "event"), ms(row, "since"), ms(row, "at"))
    };
    let mut events: Vec<_> = place.rows("out").iter().map(event).collect();
    events.sort_by(|a, b| (a.4, &a.0, &a.1, &a.2).cmp(&(b.4, &b.0, &b.1, &b.2)));
    events
}

fn event(device: &str, rule: &str, event: &str, since: i64, at: i64) -> Event {
    (device.to_owned(), rule.to_owned(), event.to_owned(), since, at)
}

/// Readings of device `a`, one a second.
fn heat(place: &Place, seconds: std::ops::Range<i64>, temperature: f64) {
    heat_of("a", place, seconds, temperature);
}

fn heat_of(device: &str, place: &Place, seconds: std::ops::Range<i64>, temperature: f64) {
    for second in seconds {
        place.append("in/part-0.jsonl", &reading(device, START + second * 1000, temperature));
    }
}

fn hot_for(place: &Place, for_ms: i64) {
    let rule = format!("{{\"rule_id\":\"hot\",\"above\":80.0,\"for_ms\":{for_ms}}}\n");
    place.append("rules/part-0.jsonl", &rule);
}

/// A place and a job that follows it, with the rule `hot` in force.
fn with_hot_for(for_ms: i64) -> (Place, Running) {
    let place = Place::new();
    hot_for(&place, for_ms);
    place.append("in/part-0.jsonl", "");
    let mut job = Running::start(&place, JOB, &[&ARGUMENTS[..], &["--follow"]].concat());
    settle(&place, &mut job);
    (place, job)
}

/// Waits until all rows of both streams are part of a snapshot: the next ones come behind them, on every worker, and
/// what follows from them is about to be published.
fn settle(place: &Place, job: &mut Running) {
    let rows = place.rows("in").len() + place.rows("rules").len();
    job.until("a snapshot of all rows", || rows_in_snapshot(place) >= rows as u64);
}

/// All events, once the job has stopped.
fn events_in_the_end(place: &Place, mut job: Running) -> Vec<Event> {
    job.signal(libc::SIGINT);
    assert!(job.wait().success(), "{}", job.said());
    events(place)
}

#[test]
fn a_breach_is_told_when_it_lasts_and_when_it_ends_across_a_kill() {
    let (place, mut job) = with_hot_for(10_000);

    // Too short, then long enough; the alert needs the watermark to pass its time.
    heat(&place, 1..9, 90.0);
    heat(&place, 9..12, 20.0);
    heat(&place, 12..30, 90.0);
    let entered = event("a", "hot", "entered", 12_000, 22_001);
    job.until("the alert", || events(&place) == [entered.clone()]);

    job.signal(libc::SIGKILL);
    job.wait();
    heat(&place, 30..32, 20.0);
    let mut job = Running::start(&place, JOB, &[&ARGUMENTS[..], &["--follow"]].concat());
    let left = event("a", "hot", "left", 12_000, 30_000);
    job.until("its end", || events(&place) == [entered.clone(), left.clone()]);

    // A rule that comes while the job runs.
    place.append("rules/part-0.jsonl", "{\"rule_id\":\"warm\",\"above\":30.0,\"for_ms\":5000}\n{oops}\n");
    job.until("the dead letter behind the new rule", || place.rows("dead/rules").len() == 1);
    heat(&place, 32..50, 40.0);
    let warm = event("a", "warm", "entered", 32_000, 37_001);
    job.until("the new rule's alert", || events(&place).contains(&warm));
    assert_eq!(events_in_the_end(&place, job), [entered, left, warm]);
}

#[test]
fn a_breach_as_long_as_its_rule_allows_is_none_to_tell_of() {
    let (place, mut job) = with_hot_for(10_000);
    heat(&place, 0..10, 90.0);
    heat(&place, 10..20, 20.0);
    heat(&place, 20..30, 90.0);
    place.append("in/part-0.jsonl", &reading("a", START + 30_001, 20.0));
    heat(&place, 31..40, 20.0);
    settle(&place, &mut job);
    let told = [event("a", "hot", "entered", 20_000, 30_001), event("a", "hot", "left", 20_000, 30_001)];
    assert_eq!(events_in_the_end(&place, job), told);
}

/// Device `a` goes on telling its temperature, device `b` is silent once it is hot.
#[test]
fn a_rule_that_is_made_longer_counts_as_it_is_now() {
    let (place, mut job) = with_hot_for(10_000);
    heat_of("b", &place, 0..1, 90.0);
    heat(&place, 0..8, 90.0);
    settle(&place, &mut job);
    hot_for(&place, 20_000);
    settle(&place, &mut job);
    // Past the old rule's time, not past the new one's.
    heat(&place, 8..20, 90.0);
    settle(&place, &mut job);
    heat(&place, 20..30, 90.0);
    let both = ["a", "b"].map(|device| event(device, "hot", "entered", 0, 20_001));
    job.until("both alerts while the breaches last", || events(&place) == both);
    assert_eq!(events_in_the_end(&place, job), both);
}

#[test]
fn a_rule_that_is_made_shorter_counts_as_it_is_now() {
    let (place, mut job) = with_hot_for(3_600_000);
    heat(&place, 0..8, 90.0);
    settle(&place, &mut job);
    hot_for(&place, 5_000);
    settle(&place, &mut job);
    heat(&place, 8..9, 90.0);
    let entered = [event("a", "hot", "entered", 0, 5_001)];
    job.until("the alert while the breach lasts", || events(&place) == entered);
    assert_eq!(events_in_the_end(&place, job), entered);
}

#[test]
fn a_breach_of_a_deleted_rule_is_over() {
    let (place, mut job) = with_hot_for(5_000);
    heat(&place, 0..10, 90.0);
    heat_of("b", &place, 9..10, 90.0);
    settle(&place, &mut job);
    place.append("rules/part-0.jsonl", "{\"rule_id\":\"hot\",\"deleted\":true}\n");
    settle(&place, &mut job);
    heat(&place, 10..30, 90.0);
    settle(&place, &mut job);
    let told = [event("a", "hot", "entered", 0, 5_001), event("a", "hot", "left", 0, 10_000)];
    assert_eq!(events_in_the_end(&place, job), told);
}

#[test]
fn readings_behind_newer_ones_begin_and_end_nothing() {
    let (place, mut job) = with_hot_for(5_000);
    let late = |device: &str, ms: i64, temperature| {
        place.append("in/part-0.jsonl", &reading(device, START + ms, temperature));
    };
    heat(&place, 0..10, 90.0);
    // Out of order, within what the watermark allows; and an hour late, when the watermark has long been told.
    late("a", 8_500, 20.0);
    settle(&place, &mut job);
    late("a", -3_600_000, 20.0);
    late("b", -3_600_000, 90.0);
    heat(&place, 10..11, 20.0);
    late("a", 9_500, 90.0);
    settle(&place, &mut job);
    late("a", -3_600_000, 90.0);
    heat(&place, 11..30, 20.0);
    settle(&place, &mut job);
    let told = [event("a", "hot", "entered", 0, 5_001), event("a", "hot", "left", 0, 10_000)];
    assert_eq!(events_in_the_end(&place, job), told);
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
