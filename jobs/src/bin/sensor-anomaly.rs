//! Reports readings that stand out: temperatures above a threshold, and those far from the device's last ones.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate::{Job, Result};
use tidegate_jobs::{Places, Reading};

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// Reports temperatures above a threshold, and those that are far from the last ones of their device (rolling z-score)
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    places: Places,
    /// A temperature above this one is an anomaly, in degrees Celsius.
    #[arg(long, value_name = "CELSIUS", default_value_t = 100.0)]
    threshold: f64,
    /// A temperature that is so many standard deviations away from the mean of the last ones is an anomaly.
    #[arg(long, value_name = "DEVIATIONS", default_value_t = 4.0)]
    z_score: f64,
    /// How many readings of a device the mean is taken of; there have to be as many before one is compared with them.
    #[arg(long, value_name = "READINGS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    window: u32,
}

fn main() -> Result<()> {
    tidegate::main("sensor-anomaly", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let (places, kafka) = (&args.places, args.places.kafka());
    let (threshold, z_score, window) = (args.threshold, args.z_score, args.window as usize);
    job.source("readings", places.input.json_source::<Reading>(&kafka))
        .dead_letters(places.dead_letters.json_sink(&kafka))
        .key_by(|r| &r.device_id)
        .flat_map_with_state("detector", move |last: &mut LastReadings, reading: Reading| {
            let rolling = last.score(reading.temperature, window).filter(|score| score.z.abs() > z_score);
            let above = (reading.temperature > threshold).then_some(Kind::AboveThreshold { threshold });
            let found = above.into_iter().chain(rolling.map(Kind::FarFromTheLast));
            found.map(move |kind| Anomaly::of(&reading, kind)).collect::<Vec<_>>()
        })
        .sink("anomalies", places.output.json_sink_by_key(&kafka, |anomaly: &Anomaly| &anomaly.device_id));
    Ok(())
}

/// The last temperatures of a device.
#[derive(Default, Serialize, Deserialize)]
struct LastReadings(VecDeque<f64>);

/// How far a temperature is from those before it.
#[derive(Serialize)]
struct Score {
    mean: f64,
    standard_deviation: f64,
    z: f64,
}

impl LastReadings {
    /// The score of a temperature, once there are enough before it that differ; it is one of the last ones from then on.
    fn score(&mut self, temperature: f64, window: usize) -> Option<Score> {
        let Self(last) = self;
        let is_full = last.len() >= window;
        let mean = last.iter().sum::<f64>() / last.len() as f64;
        let variance = last.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / last.len() as f64;
        while last.len() >= window {
            last.pop_front();
        }
        last.push_back(temperature);
        let standard_deviation = variance.sqrt();
        (is_full && standard_deviation > 0.0).then(|| {
            let z = (temperature - mean) / standard_deviation;
            Score { mean, standard_deviation, z }
        })
    }
}

/// What is wrong with a reading.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Kind {
    AboveThreshold { threshold: f64 },
    FarFromTheLast(Score),
}

#[derive(Serialize)]
struct Anomaly {
    device_id: String,
    timestamp: i64,
    temperature: f64,
    #[serde(flatten)]
    kind: Kind,
}

impl Anomaly {
    fn of(reading: &Reading, kind: Kind) -> Self {
        let Reading { device_id, timestamp, temperature, .. } = reading;
        Self { device_id: device_id.clone(), timestamp: *timestamp, temperature: *temperature, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_is_compared_with_those_before_it() {
        let mut last = LastReadings::default();
        assert!([20.0, 22.0, 20.0].iter().all(|t| last.score(*t, 4).is_none()), "too few");
        assert!(last.score(22.0, 4).is_none(), "still too few");
        let score = last.score(31.0, 4).expect("enough");
        assert_eq!((score.mean, score.standard_deviation, score.z), (21.0, 1.0, 10.0));
        // From now on it is one of the last four.
        assert_eq!(last.score(0.0, 4).expect("enough").mean, (22.0 + 20.0 + 22.0 + 31.0) / 4.0);
    }

    #[test]
    fn equal_temperatures_have_no_score() {
        let mut last = LastReadings::default();
        assert!((0..10).all(|_| last.score(20.0, 3).is_none()));
        assert!(last.score(90.0, 3).is_none(), "any difference would be infinitely far");
        assert!(last.score(20.0, 3).is_some());
    }
}
