//! Reports which machines are about to fail: readings of sensors, five-minute features by device, a model's score.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::{Aggregate, Job, Result, Tumbling, Watermarks, Windowed};
use tidegate_jobs::{Places, Reading};
use tidegate_models::XgboostModel;

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// Scores five-minute windows of sensor readings by device with an XGBoost model
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    places: Places,
    /// The XGBoost model (JSON or UBJ) over temp_std, vibration_mean, pressure_mean.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
}

fn main() -> Result<()> {
    tidegate::main("predictive-maintenance", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let model = XgboostModel::load(&args.model)?;
    model.expect_features(3)?;
    model.expect_outputs(1)?;
    let (places, kafka) = (&args.places, args.places.kafka());
    job.source("readings", places.input.json_source::<Reading>(&kafka))
        .dead_letters(places.dead_letters.json_sink(&kafka))
        .filter(|r| (0.0..=100.0).contains(&r.temperature))
        .named("out_of_range")
        .event_time(|r| r.timestamp, Watermarks::bounded(Duration::from_secs(2)))
        .key_by(|r| &r.device_id)
        .window(Tumbling::of(Duration::from_secs(300)))
        .aggregate("features", FeatureStats)
        .map(move |features| Alert::score(&model, features))
        .sink("alerts", places.output.json_sink_by_key(&kafka, |alert: &Alert| &alert.device_id));
    Ok(())
}

/// Mean and spread of a window's readings, in one pass (Welford 1962).
struct FeatureStats;

#[derive(Default, Serialize, Deserialize)]
struct Stats {
    count: u64,
    temperature_mean: f64,
    temperature_m2: f64,
    vibration_sum: f64,
    pressure_sum: f64,
}

struct Features {
    count: u64,
    temp_std: f64,
    vibration_mean: f64,
    pressure_mean: f64,
}

impl Aggregate<Reading> for FeatureStats {
    type Acc = Stats;
    type Out = Features;

    fn create(&self) -> Stats {
        Stats::default()
    }

    #[inline]
    fn add(&self, acc: &mut Stats, reading: &Reading) {
        acc.count += 1;
        let delta = reading.temperature - acc.temperature_mean;
        acc.temperature_mean += delta / acc.count as f64;
        acc.temperature_m2 += delta * (reading.temperature - acc.temperature_mean);
        acc.vibration_sum += reading.vibration;
        acc.pressure_sum += reading.pressure;
    }

    fn finish(&self, acc: &Stats) -> Features {
        let n = acc.count as f64;
        Features {
            count: acc.count,
            temp_std: (acc.temperature_m2 / n).sqrt(),
            vibration_mean: acc.vibration_sum / n,
            pressure_mean: acc.pressure_sum / n,
        }
    }
}

/// A scored window; `alert` where the model is more than 80 % sure.
#[derive(Serialize)]
struct Alert {
    device_id: String,
    window_start: i64,
    window_end: i64,
    count: u64,
    temp_std: f64,
    vibration_mean: f64,
    pressure_mean: f64,
    probability: f32,
    alert: bool,
    model: std::rc::Rc<str>,
}

impl Alert {
    fn score(model: &XgboostModel, features: Windowed<String, Features>) -> Self {
        let Windowed { key, window, value: f } = features;
        let probability =
            model.predict(&[f.temp_std as f32, f.vibration_mean as f32, f.pressure_mean as f32]);
        Self {
            device_id: key,
            window_start: window.start,
            window_end: window.end,
            count: f.count,
            temp_std: f.temp_std,
            vibration_mean: f.vibration_mean,
            pressure_mean: f.pressure_mean,
            probability,
            alert: probability > 0.8,
            model: model.id().into(),
        }
    }
}
