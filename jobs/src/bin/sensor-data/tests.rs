//! What the rows are, and what is counted of them.

use std::time::Duration;

use super::*;
use crate::pace::{PACE, rows_in};
use crate::partitions::timestamps;
use crate::rows::push_decimal;
use std::collections::{HashMap, HashSet};

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "the types of the rest are what is tested")]
struct Row<'a> {
    device_id: &'a str,
    timestamp: i64,
    temperature: f64,
    vibration: f64,
    pressure: f64,
}

fn stream(options: &[&str]) -> Stream {
    let args = Args::parse_from(["sensor-data", "--out", "x"].iter().chain(options));
    Stream::new(&args, 1_700_000_000_000)
}

fn rows(options: &[&str], count: usize) -> Vec<Vec<u8>> {
    let mut stream = stream(options);
    let mut next = || {
        stream.next_row();
        stream.line.clone()
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_good_row_is_valid() {
    for line in rows(&["--malformed", "0"], 10_000) {
        serde_json::from_slice::<Row<'_>>(&line).expect("a valid row");
    }
}

#[test]
fn a_malformed_row_is_never_valid_nor_empty_nor_two_lines() {
    let lines = rows(&["--malformed", "1", "--out-of-range", "0", "--late", "0"], 200_000);
    for line in &lines {
        let (end, body) = line.split_last().expect("not empty");
        assert!(*end == b'\n' && !body.contains(&b'\n') && !body.contains(&b'\r'));
        assert!(!body.trim_ascii().is_empty());
        let text = String::from_utf8_lossy(body);
        assert!(serde_json::from_slice::<Row<'_>>(body).is_err(), "valid by accident: {text}");
    }
    assert!(lines.iter().collect::<HashSet<_>>().len() > 100_000, "malformed rows are varied");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(rows(&["--seed", "7"], 5_000), rows(&["--seed", "7"], 5_000));
    assert_ne!(rows(&["--seed", "7"], 5_000), rows(&["--seed", "8"], 5_000));
}

#[test]
fn late_rows_come_in_the_second_half_only_and_an_hour_early() {
    let late = |l: &[u8]| timestamps(l).next().is_some_and(|t| t <= 1_700_000_000_000 - LATE_MS);
    let lines = rows(&["--late", "0.1", "--rows", "10000"], 10_000);
    assert!(!lines[..5000].iter().any(|l| late(l)));
    assert!(lines[5000..].iter().filter(|l| late(l)).count() > 300);
}

const ONLY_GOOD: [&str; 6] = ["--malformed", "0", "--out-of-range", "0", "--late", "0"];

/// How much older than the newest row before it each row is; 0 for a row that is the newest.
fn ages(options: &[&str], count: usize) -> Vec<u64> {
    let lines = rows(&[&ONLY_GOOD[..], options].concat(), count);
    let mut newest = 0;
    let mut age = |timestamp: u64| {
        newest = newest.max(timestamp);
        newest - timestamp
    };
    lines.iter().flat_map(|line| timestamps(line)).map(&mut age).collect()
}

#[test]
fn disorder_stays_within_its_bound() {
    for (options, bound) in
        [(&[][..], 2000), (&["--out-of-order-ms", "50"], 50), (&["--rows-per-window", "3"], 2000)]
    {
        let most = ages(options, 50_000).into_iter().max().expect("rows");
        assert!((bound * 9 / 10..=bound).contains(&most), "{most} ms with {options:?}");
    }
}

#[test]
fn as_many_rows_are_out_of_order_as_asked_for() {
    let older = |share| ages(&["--out-of-order", share], 100_000).iter().filter(|age| **age > 0).count();
    assert_eq!(older("0"), 0);
    assert!((9_500..10_500).contains(&older("0.1")), "{}", older("0.1"));
    assert!((48_500..51_500).contains(&older("0.5")), "{}", older("0.5"));
}

#[test]
fn but_for_its_time_a_row_is_the_same_whatever_the_share() {
    let temperatures = |share| {
        let lines = rows(&[&ONLY_GOOD[..], &["--out-of-order", share]].concat(), 1_000);
        let row = |line: &Vec<u8>| serde_json::from_slice::<Row<'_>>(line).map(|row| row.temperature);
        lines.iter().map(|line| row(line).expect("a valid row")).collect::<Vec<_>>()
    };
    assert_eq!(temperatures("0"), temperatures("1"));
}

#[test]
fn a_device_stays_in_one_partition() {
    let mut stream = stream(&["--partitions", "3", "--devices", "100", "--malformed", "0"]);
    let mut homes = HashMap::new();
    for _ in 0..10_000 {
        let partition = stream.next_row();
        let row: Row<'_> = serde_json::from_slice(&stream.line).expect("a valid row");
        assert_eq!(*homes.entry(row.device_id.to_owned()).or_insert(partition), partition);
    }
    assert_eq!(homes.len(), 100);
    assert_eq!(homes.into_values().collect::<HashSet<_>>(), HashSet::from([0, 1, 2]));
}

#[test]
fn the_counts_are_those_of_the_rows_and_agree_with_the_shares() {
    let shares = ["--malformed", "0.1", "--out-of-range", "0.2", "--late", "0.04", "--rows", "100000"];
    let mut stream = stream(&shares);
    let mut found = Counts::default();
    for _ in 0..100_000 {
        stream.next_row();
        found.rows += 1;
        found.bytes += stream.line.len() as u64;
        match serde_json::from_slice::<Row<'_>>(&stream.line) {
            Err(_) => found.malformed += 1,
            Ok(row) if !(0.0..=100.0).contains(&row.temperature) => found.out_of_range += 1,
            Ok(row) if row.timestamp <= 1_700_000_000_000 - LATE_MS as i64 => found.late += 1,
            Ok(_) => {}
        }
    }
    assert_eq!(found, stream.counts);
    // Late rows are in the second half only.
    let wanted = [(found.malformed, 10_000), (found.out_of_range, 20_000), (found.late, 2_000)];
    assert!(wanted.iter().all(|(n, wanted)| n.abs_diff(*wanted) < wanted / 10), "{wanted:?}");
}

#[test]
fn event_times_that_would_not_fit_are_refused() {
    let refusal = |options: &[&str], start| {
        let args = Args::parse_from(["sensor-data", "--out", "x"].iter().chain(options));
        args.check_times(start).err().unwrap_or_default()
    };
    let start = 1_700_000_000_000;
    assert_eq!(refusal(&[], start), "");
    assert_eq!(refusal(&["--out-of-order-ms", "1700000000000"], start), "");
    assert!(refusal(&["--out-of-order-ms", "1700000000001"], start).contains("--out-of-order-ms"));
    assert!(refusal(&["--out-of-order-ms", "18446744073709551615"], start).contains("--out-of-order-ms"));
    assert!(refusal(&["--rows-per-window", "1e-300"], start).contains("event time would go up to"));
    assert!(refusal(&["--rows", "18446744073709551615"], start).contains("event time would go up to"));
    // With --append the start is what the files end with, and they may end with anything.
    for start in [0, LEAST_START_MS - 1, LAST_MS + 1, u64::MAX] {
        assert!(refusal(&[], start).contains("--start-time"), "{start}");
    }
}

#[test]
fn the_stream_of_a_topic_ends_now() {
    let options = ["sensor-data", "--out", "kafka:x", "--rows", "6000", "--devices", "1000", "--late", "0"];
    let args = Args::parse_from(options);
    let start = args.start_that_ends_at(1_800_000_000_000);
    // A device has 30 rows in 5 minutes, so 6 rows take one.
    assert_eq!(start, 1_800_000_000_000 - 60_000);
    assert_eq!(Args::parse_from(["sensor-data", "--out", "kafka:x"]).start_that_ends_at(5), 0);
}

#[test]
fn a_rate_is_kept_over_all_beats() {
    assert_eq!(rows_in(PACE, 10_000.0), 200);
    assert_eq!(rows_in(Duration::from_secs(3600), 10_000.0), 36_000_000);
    let beats = (1..=150).map(|beat| rows_in(PACE * beat, 0.7));
    let rows: Vec<u64> = beats.collect();
    assert!(rows.is_sorted() && rows.last() == Some(&2), "less than a row a beat adds up: {rows:?}");
    assert_eq!(rows_in(Duration::MAX, f64::MAX), u64::MAX);
    assert_eq!(Pace::new(None).due(7), 7 + 65_536, "without a rate nothing is waited for");
}

#[test]
fn numbers_are_written_as_asked() {
    let written = |value| {
        let mut line = Vec::new();
        push_decimal::<10_000, 4>(&mut line, value);
        String::from_utf8(line).expect("digits")
    };
    assert_eq!([written(231), written(-5), written(1_230_001)], ["0.0231", "-0.0005", "123.0001"]);
}
