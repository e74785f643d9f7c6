//! What must come out, computed from the input alone.
//!
//! Naive on purpose: all rows in memory, sorted, a two-pass standard deviation, plain means. It shares no line
//! with the engine but the model evaluator, which is held against xgboost's own predictions elsewhere.
//!
//! A row is late if its window ends at or before the greatest event time seen so far in its partition, less
//! the 2 s that rows may be out of order. An engine's watermark follows the slowest partition, so it may lag
//! behind that: an input in which some correct engine might keep a late row has no one right answer, and is
//! refused.

use crate::failure::{Context, Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate_models::XgboostModel;

/// The length of a window, in milliseconds of event time.
pub const WINDOW_MS: i64 = 300_000;
/// How far rows may be out of order before they count as late.
pub const DISORDER_MS: i64 = 2_000;

/// Totals that a job must have counted at the end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines that are not empty.
    pub rows: u64,
    /// Lines that are no reading.
    pub malformed: u64,
    /// Readings with a temperature outside 0 to 100, late or not.
    pub out_of_range: u64,
    /// Readings in range whose window had closed.
    pub late: u64,
}

/// One expected output row, without its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Readings in the window.
    pub count: u64,
    /// Population standard deviation of the temperature.
    pub temp_std: f64,
    /// Mean vibration.
    pub vibration_mean: f64,
    /// Mean pressure.
    pub pressure_mean: f64,
    /// The model's score.
    pub probability: f32,
}

/// A device and the start of a window.
pub type Key = (u32, i64);
/// Where a line is: a partition's file name and the offset of the line's first byte; or a partition of a topic, as `TOPIC-NUMBER`, and
/// the offset of a message.
pub type Place = (String, u64);

/// The expected output of one input.
#[derive(Debug)]
pub struct Oracle {
    /// Every device name that occurs in a reading, with its number.
    pub devices: HashMap<String, u32>,
    /// Every output row.
    pub windows: HashMap<Key, Window>,
    /// Every dead letter, with the bytes of its line.
    pub dead_letters: HashMap<Place, Vec<u8>>,
    /// The totals.
    pub counts: Counts,
    /// The model's name in every output row.
    pub model: String,
}

#[derive(Deserialize)]
struct Reading<'a> {
    device_id: &'a str,
    timestamp: i64,
    temperature: f64,
    vibration: f64,
    pressure: f64,
}

/// A reading that belongs into a window.
struct Kept {
    key: Key,
    temperature: f64,
    vibration: f64,
    pressure: f64,
}

impl Oracle {
    /// Reads every `part-*.jsonl` of `input` and scores with the model in the file `model`. Lines are in these files, or were
    /// the messages of a topic, part-0.jsonl those of partition 0.
    pub fn of(input: &Path, topic: Option<&str>, model: &Path) -> Result<Oracle> {
        let evaluator =
            XgboostModel::load(model).context(format!("cannot load model {}", model.display()))?;
        Oracle::with((input, topic), evaluator.id(), |features| evaluator.predict(&features))
    }

    /// The same with any other score: for tests.
    pub fn with(
        (input, topic): (&Path, Option<&str>),
        model: &str,
        score: impl Fn([f32; 3]) -> f32,
    ) -> Result<Oracle> {
        let mut pass = Pass::default();
        for path in partitions(input)? {
            let bytes = fs::read(&path).context(format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match topic {
                None => pass.file(&name, &bytes),
                Some(topic) => {
                    pass.messages(&name.replace("part-", &format!("{topic}-")).replace(".jsonl", ""), &bytes)
                }
            }
        }
        pass.decidable()?;
        Ok(Oracle {
            windows: windows(pass.kept, score),
            devices: pass.devices,
            dead_letters: pass.dead_letters,
            counts: pass.counts,
            model: model.into(),
        })
    }
}

/// The partition files of a log directory, in order of their names.
fn partitions(input: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(input).context(format!("cannot list {}", input.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_partition(p)).collect();
    paths.sort();
    if paths.is_empty() {
        return Err(Failure::new(format!("{} has no part-*.jsonl: generate some", input.display())));
    }
    Ok(paths)
}

fn is_partition(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("part-") && name.ends_with(".jsonl")
}

/// One pass over the input, partition by partition.
#[derive(Default)]
struct Pass {
    devices: HashMap<String, u32>,
    kept: Vec<Kept>,
    dead_letters: HashMap<Place, Vec<u8>>,
    counts: Counts,
    newest_late_end: Option<i64>,
    oldest_in_time: Option<i64>,
}

impl Pass {
    fn file(&mut self, name: &str, bytes: &[u8]) {
        let (mut offset, mut newest) = (0, i64::MIN + DISORDER_MS);
        for raw in bytes.split_inclusive(|b| *b == b'\n') {
            let line = strip_end(raw);
            if !line.is_empty() {
                self.line(name, offset, line, &mut newest);
            }
            offset += raw.len() as u64;
        }
    }

    fn messages(&mut self, partition: &str, bytes: &[u8]) {
        let mut newest = i64::MIN + DISORDER_MS;
        for (offset, raw) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            self.line(partition, offset as u64, raw.strip_suffix(b"\n").unwrap_or(raw), &mut newest);
        }
    }

    fn line(&mut self, partition: &str, offset: u64, line: &[u8], newest: &mut i64) {
        self.counts.rows += 1;
        match serde_json::from_slice::<Reading<'_>>(line) {
            Ok(reading) => {
                *newest = reading.timestamp.max(*newest);
                self.reading(&reading, *newest);
            }
            Err(_) => {
                self.counts.malformed += 1;
                self.dead_letters.insert((partition.into(), offset), line.to_vec());
            }
        }
    }

    fn reading(&mut self, reading: &Reading<'_>, newest: i64) {
        let start = reading.timestamp - reading.timestamp.rem_euclid(WINDOW_MS);
        let late = start + WINDOW_MS <= newest - DISORDER_MS;
        if late {
            self.newest_late_end = self.newest_late_end.max(Some(start + WINDOW_MS));
        } else {
            let oldest = self.oldest_in_time.map_or(reading.timestamp, |t| t.min(reading.timestamp));
            self.oldest_in_time = Some(oldest);
        }
        if !(0.0..=100.0).contains(&reading.temperature) {
            self.counts.out_of_range += 1;
        } else if late {
            self.counts.late += 1;
        } else {
            self.keep(reading, start);
        }
    }

    fn keep(&mut self, reading: &Reading<'_>, start: i64) {
        let device = self.device(reading.device_id);
        let &Reading { temperature, vibration, pressure, .. } = reading;
        self.kept.push(Kept { key: (device, start), temperature, vibration, pressure });
    }

    fn device(&mut self, name: &str) -> u32 {
        if let Some(number) = self.devices.get(name) {
            return *number;
        }
        let number = self.devices.len() as u32;
        self.devices.insert(name.into(), number);
        number
    }

    /// Late rows must belong to windows that end before any watermark that a row in time can raise.
    fn decidable(&self) -> Result<()> {
        match (self.newest_late_end, self.oldest_in_time) {
            (Some(end), Some(oldest)) if end >= oldest - WINDOW_MS => Err(Failure::new(
                "the input has a late row that some correct engine might keep; \
                 generate it with --out-of-order-ms 2000 or less, and without --append",
            )),
            _ => Ok(()),
        }
    }
}

/// A line without its newline, or carriage return and newline.
fn strip_end(raw: &[u8]) -> &[u8] {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn windows(mut kept: Vec<Kept>, score: impl Fn([f32; 3]) -> f32) -> HashMap<Key, Window> {
    kept.sort_by_key(|k| k.key);
    kept.chunk_by(|a, b| a.key == b.key).map(|rows| (rows[0].key, window(rows, &score))).collect()
}

fn window(rows: &[Kept], score: impl Fn([f32; 3]) -> f32) -> Window {
    let mean = |value: fn(&Kept) -> f64| rows.iter().map(value).sum::<f64>() / rows.len() as f64;
    let (temp_mean, vibration_mean, pressure_mean) =
        (mean(|k| k.temperature), mean(|k| k.vibration), mean(|k| k.pressure));
    let squares: f64 = rows.iter().map(|k| (k.temperature - temp_mean).powi(2)).sum();
    let temp_std = (squares / rows.len() as f64).sqrt();
    let probability = score([temp_std as f32, vibration_mean as f32, pressure_mean as f32]);
    Window { count: rows.len() as u64, temp_std, vibration_mean, pressure_mean, probability }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_700_000_100_000;

    fn row(device: &str, timestamp: i64, temperature: f64) -> String {
        format!(
            r#"{{"device_id":"{device}","timestamp":{timestamp},"temperature":{temperature},"vibration":0.5,"pressure":100.0}}"#
        )
    }

    fn oracle(lines: &[String]) -> Result<Oracle> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("part-0.jsonl"), lines.join("\n")).expect("a partition");
        Oracle::with((dir.path(), None), "m", |f| f[0])
    }

    #[test]
    fn a_window_is_described_by_its_rows() {
        let o = oracle(&[row("a", T0, 10.0), row("a", T0 + 1, 20.0), row("b", T0, 5.0)]).expect("decidable");
        let start = T0 - T0.rem_euclid(WINDOW_MS);
        let a = &o.windows[&(o.devices["a"], start)];
        assert_eq!((a.count, a.temp_std, a.vibration_mean, a.pressure_mean), (2, 5.0, 0.5, 100.0));
        assert_eq!(o.windows.len(), 2);
    }

    #[test]
    fn rows_are_sorted_into_kinds() {
        let lines = [
            row("a", T0, 10.0),
            row("a", T0, 100.5),
            "{".into(),
            String::new(),
            row("a", T0 - 7_200_000, 1.0),
        ];
        let o = oracle(&lines).expect("decidable");
        assert_eq!(o.counts, Counts { rows: 4, malformed: 1, out_of_range: 1, late: 1 });
        let offset = (lines[0].len() + lines[1].len() + 2) as u64;
        assert_eq!(o.dead_letters[&("part-0.jsonl".into(), offset)], b"{");
    }

    #[test]
    fn a_line_of_a_topic_is_placed_by_its_number() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("part-2.jsonl"), row("a", T0, 1.0) + "\n{\n").expect("a partition");
        let oracle = Oracle::with((dir.path(), Some("readings")), "m", |f| f[0]).expect("decidable");
        assert_eq!(oracle.dead_letters, HashMap::from([(("readings-2".to_owned(), 1), b"{".to_vec())]));
    }

    #[test]
    fn an_input_without_one_right_answer_is_refused() {
        let lines = [row("a", T0, 1.0), row("a", T0 + 3 * WINDOW_MS, 1.0), row("a", T0, 1.0)];
        assert!(oracle(&lines).is_err());
    }
}
