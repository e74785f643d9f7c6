//! Rows a second of one core, without and with missing values: `cargo run --release --example rows_per_second FILE`.

use std::{env, error::Error, hint::black_box, time::Instant};

use tidegate_models::XgboostModel;

const ROWS: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("give the path of a model")?;
    let model = XgboostModel::load(file)?;
    println!("{model:?}");
    for missing in [0, 10] {
        let rows = rows(model.num_features(), missing);
        let mut out = vec![0.0; model.num_outputs()];
        let start = Instant::now();
        for row in rows.chunks_exact(model.num_features()) {
            model.predict_into(row, &mut out);
            black_box(&out);
        }
        let rate = ROWS as f64 / start.elapsed().as_secs_f64();
        println!("{rate:.0} rows/s, {missing} in 100 values missing");
    }
    Ok(())
}

/// Values spread as in the predictive-maintenance job: 0 to 20, 0 to 0.12, 80 to 115, and again.
fn rows(num_features: usize, missing_percent: u64) -> Vec<f32> {
    let spread = [(0.0, 20.0), (0.0, 0.12), (80.0, 35.0)];
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    let value = |k: usize| {
        let (low, width) = spread[k % num_features % spread.len()];
        if random() % 100 < missing_percent {
            f32::NAN
        } else {
            low + width * (random() as f32 / (1u64 << 31) as f32)
        }
    };
    (0..ROWS * num_features).map(value).collect()
}
