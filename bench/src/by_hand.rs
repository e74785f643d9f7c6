//! The work of predictive-maintenance by hand: windows in a table by device, the model, rows of JSON. What reads and writes
//! around it is the bare programs' own.

use crate::Result;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use tidegate_models::XgboostModel;

const WINDOW_MS: i64 = 300_000;
const DISORDER_MS: i64 = 2_000;

/// A row of input, borrowed from where it lies.
#[derive(Deserialize)]
pub struct Reading<'a> {
    device_id: &'a str,
    timestamp: i64,
    temperature: f64,
    vibration: f64,
    pressure: f64,
}

/// A row of output.
#[derive(Serialize)]
pub struct Alert<'a> {
    /// The device, the key of a message.
    pub device_id: &'a str,
    window_start: i64,
    window_end: i64,
    count: u64,
    temp_std: f64,
    vibration_mean: f64,
    pressure_mean: f64,
    probability: f32,
    alert: bool,
    model: &'a str,
}

/// A row that is no reading.
#[derive(Serialize)]
pub struct DeadLetter<'a> {
    source: &'a str,
    partition: &'a str,
    offset: u64,
    error: String,
    raw: Cow<'a, str>,
}

impl<'a> DeadLetter<'a> {
    /// The dead letter of a row.
    pub fn new(partition: &'a str, offset: u64, error: &serde_json::Error, raw: &'a [u8]) -> Self {
        let (error, raw) = (error.to_string(), String::from_utf8_lossy(raw));
        DeadLetter { source: "readings", partition, offset, error, raw }
    }
}

/// What was counted.
#[derive(Serialize, Default, Debug)]
pub struct Counts {
    /// Rows of input.
    pub rows_in: u64,
    /// Of them no readings.
    pub malformed: u64,
    /// Of them with a temperature that cannot be.
    pub out_of_range: u64,
    /// Of them behind the watermark.
    pub late: u64,
    /// Rows of output.
    pub rows_out: u64,
}

/// A device's readings in one window: Welford's mean and sum of squares, and two plain sums.
#[derive(Clone, Copy, Default)]
struct Features {
    count: u64,
    mean: f64,
    squares: f64,
    vibration: f64,
    pressure: f64,
}

impl Features {
    fn add(&mut self, reading: &Reading<'_>) {
        self.count += 1;
        let distance = reading.temperature - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (reading.temperature - self.mean);
        self.vibration += reading.vibration;
        self.pressure += reading.pressure;
    }

    fn alert<'a>(&self, device_id: &'a str, window_start: i64, model: &'a XgboostModel) -> Alert<'a> {
        let n = self.count as f64;
        let (temp_std, vibration_mean, pressure_mean) =
            ((self.squares / n).sqrt(), self.vibration / n, self.pressure / n);
        let probability = model.predict(&[temp_std as f32, vibration_mean as f32, pressure_mean as f32]);
        Alert {
            device_id,
            window_start,
            window_end: window_start + WINDOW_MS,
            count: self.count,
            temp_std,
            vibration_mean,
            pressure_mean,
            probability,
            alert: probability > 0.8,
            model: model.id(),
        }
    }
}

/// All the state of the job: a table of features a window, indexed by device.
pub struct Windows {
    numbers: FxHashMap<Box<str>, u32>,
    devices: Vec<Box<str>>,
    windows: BTreeMap<i64, Vec<Features>>,
    watermark: i64,
    model: XgboostModel,
    /// What was counted so far.
    pub counts: Counts,
}

impl Windows {
    /// No state yet, and a model.
    pub fn new(model: &Path) -> Result<Windows> {
        Ok(Windows {
            numbers: FxHashMap::default(),
            devices: Vec::new(),
            windows: BTreeMap::new(),
            watermark: i64::MIN,
            model: XgboostModel::load(model).map_err(|e| e.to_string())?,
            counts: Counts::default(),
        })
    }

    /// Adds a reading to its window and returns its time.
    #[inline]
    pub fn add(&mut self, reading: &Reading<'_>) -> i64 {
        let start = reading.timestamp - reading.timestamp.rem_euclid(WINDOW_MS);
        if !(0.0..=100.0).contains(&reading.temperature) {
            self.counts.out_of_range += 1;
        } else if start + WINDOW_MS - 1 <= self.watermark {
            self.counts.late += 1;
        } else {
            let device = self.device(reading.device_id);
            let table = self.windows.entry(start).or_default();
            if table.len() <= device {
                table.resize(device + 1, Features::default());
            }
            table[device].add(reading);
        }
        reading.timestamp
    }

    #[inline]
    fn device(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number as usize;
        }
        let number = self.devices.len();
        self.devices.push(name.into());
        self.numbers.insert(name.into(), number as u32);
        number
    }

    /// The watermark follows the newest row of the slowest partition; one that has ended holds nothing up.
    pub fn advance(&mut self, newest: impl Iterator<Item = i64>) {
        if let Some(newest) = newest.min().filter(|time| *time > i64::MIN) {
            self.watermark = self.watermark.max(newest - DISORDER_MS - 1);
        }
    }

    /// Gives the rows of the windows that have closed to `each`.
    pub fn fire<E>(
        &mut self,
        mut each: impl FnMut(&Alert<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while let Some(first) = self.windows.first_entry() {
            if first.key().saturating_add(WINDOW_MS - 1) > self.watermark {
                break;
            }
            let (start, table) = first.remove_entry();
            for (device, features) in table.iter().enumerate().filter(|(_, f)| f.count > 0) {
                each(&features.alert(&self.devices[device], start, &self.model))?;
                self.counts.rows_out += 1;
            }
        }
        Ok(())
    }

    /// Closes all windows that are left: the next [`Windows::fire`] gives their rows.
    pub fn close(&mut self) {
        self.watermark = i64::MAX;
    }
}
