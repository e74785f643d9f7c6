//! Compares what is visible with what the oracle expects.
//!
//! While the job has not reached the end of its input, rows may be missing; a row that is wrong, twice there
//! or expected by nobody is a finding at every instant. A count of zero is only worth something if the judge
//! can count: its tests remove, repeat and alter rows and see each found.

use crate::failure::Result;
use crate::oracle::{Key, Oracle, Place, WINDOW_MS, Window};
use crate::visible::{self, VisibleFile};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::path::Path;

/// As many offending rows are kept to be shown.
const EXAMPLES: usize = 5;

/// How one directory compares with what is expected of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rows that the oracle expects.
    pub expected: usize,
    /// Different expected rows that are there, right or wrong.
    pub found: usize,
    /// Rows that were there already.
    pub duplicate: usize,
    /// Rows that are expected, but not so.
    pub wrong: usize,
    /// Rows that nobody expects.
    pub extra: usize,
    /// A few of the offending rows, each with its file and what is wrong.
    pub examples: Vec<String>,
}

impl Tally {
    /// Expected rows that are not there.
    pub fn missing(&self) -> usize {
        self.expected - self.found
    }

    fn is_sound(&self) -> bool {
        self.duplicate + self.wrong + self.extra == 0
    }

    fn example(&mut self, file: &str, what: &str, row: &[u8]) {
        if self.examples.len() < EXAMPLES {
            let row: String = String::from_utf8_lossy(row).chars().take(300).collect();
            self.examples.push(format!("{file}: {what}: {row}"));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, expected) = (self.found, self.expected);
        write!(f, "{found} of {expected}")?;
        if !self.is_sound() {
            let Tally { duplicate, wrong, extra, .. } = self;
            write!(f, " (duplicate {duplicate}, wrong {wrong}, extra {extra})")?;
        }
        Ok(())
    }
}

/// The judgement of both directories.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The job's output.
    pub windows: Tally,
    /// Its dead letters.
    pub dead_letters: Tally,
}

impl Verdict {
    /// Nothing visible is wrong, duplicate or extra. Holds at every instant.
    pub fn is_sound(&self) -> bool {
        self.windows.is_sound() && self.dead_letters.is_sound()
    }

    /// Sound, and nothing is missing. Holds at the end of the input.
    pub fn is_complete(&self) -> bool {
        self.is_sound() && self.windows.missing() + self.dead_letters.missing() == 0
    }

    /// A few of the offending rows.
    pub fn examples(&self) -> impl Iterator<Item = &String> {
        self.windows.examples.iter().chain(&self.dead_letters.examples)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "windows {}, dead letters {}", self.windows, self.dead_letters)
    }
}

/// Judges the visible files of the two directories.
pub fn judge(oracle: &Oracle, output: &Path, dead_letters: &Path) -> Result<Verdict> {
    Ok(judge_files(oracle, &visible::files(output)?, &visible::files(dead_letters)?))
}

/// Judges files that are in memory.
pub fn judge_files(oracle: &Oracle, output: &[VisibleFile], dead_letters: &[VisibleFile]) -> Verdict {
    Verdict {
        windows: tally(output, oracle.windows.len(), |row| alert_row(oracle, row)),
        dead_letters: tally(dead_letters, oracle.dead_letters.len(), |row| dead_letter(oracle, row)),
    }
}

/// What one row turned out to be.
enum Finding<K> {
    Expected(K),
    Wrong(K, &'static str),
    Extra(&'static str),
}

fn tally<K: Hash + Eq>(files: &[VisibleFile], expected: usize, find: impl Fn(&[u8]) -> Finding<K>) -> Tally {
    let mut tally = Tally { expected, ..Tally::default() };
    let mut seen = HashSet::new();
    for file in files {
        for row in visible::rows(&file.bytes) {
            add(&mut tally, &mut seen, &file.name, row, find(row));
        }
    }
    tally.found = seen.len();
    tally
}

fn add<K: Hash + Eq>(tally: &mut Tally, seen: &mut HashSet<K>, file: &str, row: &[u8], finding: Finding<K>) {
    let key = match finding {
        Finding::Expected(key) => key,
        Finding::Wrong(key, what) => {
            tally.wrong += 1;
            tally.example(file, what, row);
            key
        }
        Finding::Extra(what) => {
            tally.extra += 1;
            return tally.example(file, what, row);
        }
    };
    if !seen.insert(key) {
        tally.duplicate += 1;
        tally.example(file, "duplicate", row);
    }
}

#[derive(Deserialize)]
struct Alert<'a> {
    #[serde(borrow)]
    device_id: std::borrow::Cow<'a, str>,
    window_start: i64,
    window_end: i64,
    count: u64,
    temp_std: f64,
    vibration_mean: f64,
    pressure_mean: f64,
    probability: f64,
    alert: bool,
    model: String,
}

fn alert_row(oracle: &Oracle, row: &[u8]) -> Finding<Key> {
    let Ok(alert) = serde_json::from_slice::<Alert<'_>>(row) else {
        return Finding::Extra("not an output row");
    };
    let Some(device) = oracle.devices.get(alert.device_id.as_ref()) else {
        return Finding::Extra("unknown device");
    };
    let key = (*device, alert.window_start);
    let Some(window) = oracle.windows.get(&key) else { return Finding::Extra("unexpected window") };
    match difference(&alert, window, &oracle.model) {
        None => Finding::Expected(key),
        Some(what) => Finding::Wrong(key, what),
    }
}

fn difference(row: &Alert<'_>, window: &Window, model: &str) -> Option<&'static str> {
    let far = |a: f64, b: f64, limit: f64| (a - b).is_nan() || (a - b).abs() >= limit;
    match () {
        () if row.window_end != row.window_start + WINDOW_MS => Some("wrong window_end"),
        () if row.count != window.count => Some("wrong count"),
        () if far(row.temp_std, window.temp_std, 1e-6) => Some("wrong temp_std"),
        () if far(row.vibration_mean, window.vibration_mean, 1e-9) => Some("wrong vibration_mean"),
        () if far(row.pressure_mean, window.pressure_mean, 1e-6) => Some("wrong pressure_mean"),
        () if far(row.probability, f64::from(window.probability), 1e-5) => Some("wrong probability"),
        () if row.alert != (row.probability > 0.8) => Some("wrong alert"),
        () if row.model != model => Some("wrong model"),
        () => None,
    }
}

#[derive(Deserialize)]
struct DeadLetter {
    source: String,
    partition: String,
    offset: u64,
    error: String,
    raw: Option<String>,
    raw_base64: Option<String>,
}

fn dead_letter(oracle: &Oracle, row: &[u8]) -> Finding<Place> {
    let Ok(letter) = serde_json::from_slice::<DeadLetter>(row) else {
        return Finding::Extra("not a dead letter");
    };
    let raw = raw_bytes(&letter);
    let place = (letter.partition, letter.offset);
    match oracle.dead_letters.get(&place) {
        None => Finding::Extra("no malformed line begins there"),
        Some(line) if raw.as_ref() != Some(line) => Finding::Wrong(place, "wrong raw bytes"),
        Some(_) if letter.source != "readings" || letter.error.is_empty() => {
            Finding::Wrong(place, "wrong source, or no error")
        }
        Some(_) => Finding::Expected(place),
    }
}

/// The line's bytes, from exactly one of the two fields.
fn raw_bytes(letter: &DeadLetter) -> Option<Vec<u8>> {
    match (&letter.raw, &letter.raw_base64) {
        (Some(text), None) => Some(text.clone().into_bytes()),
        (None, Some(text)) => BASE64_STANDARD.decode(text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Counts;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    const START: i64 = 1_700_000_100_000;

    /// Three windows and two dead letters are expected.
    fn oracle() -> Oracle {
        let window =
            Window { count: 3, temp_std: 1.5, vibration_mean: 0.25, pressure_mean: 99.5, probability: 0.9 };
        Oracle {
            devices: HashMap::from([
                ("dev-00000".into(), 0),
                ("dev-00001".into(), 1),
                ("dev-00002".into(), 2),
            ]),
            windows: (0..3).map(|device| ((device, START), window.clone())).collect(),
            dead_letters: HashMap::from([(("p".into(), 0), b"{".to_vec()), (("p".into(), 7), vec![0xff])]),
            counts: Counts::default(),
            model: "m".into(),
        }
    }

    fn output() -> Vec<Value> {
        let row = |device: u32| {
            json!({"device_id": format!("dev-{device:05}"), "window_start": START, "window_end": START + WINDOW_MS,
                "count": 3, "temp_std": 1.5, "vibration_mean": 0.25, "pressure_mean": 99.5, "probability": 0.9,
                "alert": true, "model": "m"})
        };
        (0..3).map(row).collect()
    }

    fn letters() -> Vec<Value> {
        vec![
            json!({"source": "readings", "partition": "p", "offset": 0, "error": "cut", "raw": "{"}),
            json!({"source": "readings", "partition": "p", "offset": 7, "error": "bytes", "raw_base64": "/w=="}),
        ]
    }

    fn file(rows: &[Value]) -> Vec<VisibleFile> {
        let bytes = rows.iter().map(|r| format!("{r}\n")).collect::<String>().into_bytes();
        vec![VisibleFile { name: "part-0-1.jsonl".into(), bytes }]
    }

    fn verdict(output: &[Value], letters: &[Value]) -> Verdict {
        judge_files(&oracle(), &file(output), &file(letters))
    }

    #[test]
    fn what_is_expected_is_complete() {
        assert!(verdict(&output(), &letters()).is_complete());
    }

    #[test]
    fn a_removed_row_is_missing() {
        let verdict = verdict(&output()[1..], &letters()[1..]);
        assert_eq!((verdict.windows.missing(), verdict.dead_letters.missing()), (1, 1));
        assert!(verdict.is_sound() && !verdict.is_complete());
    }

    #[test]
    fn a_repeated_row_is_a_duplicate() {
        let (mut rows, mut dead) = (output(), letters());
        rows.push(rows[1].clone());
        dead.push(dead[0].clone());
        let verdict = verdict(&rows, &dead);
        assert_eq!((verdict.windows.duplicate, verdict.dead_letters.duplicate), (1, 1));
        assert!(!verdict.is_sound());
    }

    #[test]
    fn a_repeated_row_in_another_file_is_a_duplicate() {
        let files = [file(&output()), file(&output()[2..])].concat();
        let verdict = judge_files(&oracle(), &files, &file(&letters()));
        assert_eq!(verdict.windows.duplicate, 1);
    }

    #[test]
    fn every_altered_field_of_a_row_is_wrong() {
        let changes = json!({"window_end": START, "count": 4, "temp_std": 1.500_002, "vibration_mean": 0.250_000_1,
            "pressure_mean": 99.6, "probability": 0.901, "alert": false, "model": "other"});
        for (name, value) in changes.as_object().expect("an object") {
            let mut rows = output();
            rows[1][name] = value.clone();
            let verdict = verdict(&rows, &letters());
            assert_eq!((verdict.windows.wrong, verdict.is_sound()), (1, false), "{name}");
        }
    }

    #[test]
    fn an_altered_key_is_extra_and_its_row_missing() {
        for (name, value) in [("device_id", json!("dev-00009")), ("window_start", json!(START + WINDOW_MS))] {
            let mut rows = output();
            rows[1][name] = value;
            let verdict = verdict(&rows, &letters());
            assert_eq!((verdict.windows.extra, verdict.windows.missing()), (1, 1), "{name}");
        }
    }

    #[test]
    fn every_altered_field_of_a_dead_letter_is_found() {
        let changes = json!({"source": "other", "partition": "q", "offset": 1, "error": "", "raw": "["});
        for (name, value) in changes.as_object().expect("an object") {
            let mut dead = letters();
            dead[0][name] = value.clone();
            assert!(!verdict(&output(), &dead).is_sound(), "{name}");
        }
    }

    #[test]
    fn a_row_that_is_no_row_is_extra() {
        let mut rows = output();
        rows.push(json!({"hello": 1}));
        assert_eq!(verdict(&rows, &letters()).windows.extra, 1);
    }

    #[test]
    fn a_torn_line_in_a_visible_file_is_a_finding() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("part-0-1.jsonl"), b"{\"device_id\"").expect("a file");
        let error = judge(&oracle(), dir.path(), dir.path()).expect_err("a torn line");
        assert!(error.to_string().contains("torn line"));
    }

    #[test]
    fn hidden_files_are_not_looked_at() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join(".part-0-1.jsonl"), b"half a li").expect("a file");
        assert!(judge(&oracle(), dir.path(), dir.path()).expect("nothing visible").is_sound());
    }
}
