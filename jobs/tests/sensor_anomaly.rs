//! The job `sensor-anomaly`: its output, over kills and with another parallelism, is that of a naive program.

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::collections::HashMap;

use support::{Place, Running, reading, run, said};

const JOB: &str = env!("CARGO_BIN_EXE_sensor-anomaly");
const WINDOW: usize = 8;

/// A walk of its own for every device, with jumps; and what the job must say of it: device, time and kind.
fn write(place: &Place, partitions: usize, rows: i64) -> Vec<(String, i64, String)> {
    let mut state = 12_345_u64;
    let mut random = move || {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let (mut last, mut expected) = (HashMap::<String, Vec<f64>>::new(), Vec::new());
    for row in 0..rows {
        let device = format!("dev-{}", row % 7);
        let jump = if random() < 0.02 { 60.0 } else { 0.0 };
        let temperature = 45.0 + 10.0 * random() + jump;
        place.append(
            &format!("in/part-{}.jsonl", row as usize % 7 % partitions),
            &reading(&device, row, temperature),
        );
        let before = last.entry(device.clone()).or_default();
        if temperature > 100.0 {
            expected.push((device.clone(), row, "above_threshold".to_owned()));
        }
        if before.len() >= WINDOW {
            let window = &before[before.len() - WINDOW..];
            let mean = window.iter().sum::<f64>() / WINDOW as f64;
            let deviation =
                (window.iter().map(|t| (t - mean) * (t - mean)).sum::<f64>() / WINDOW as f64).sqrt();
            if ((temperature - mean) / deviation).abs() > 3.0 {
                expected.push((device, row, "far_from_the_last".to_owned()));
            }
        }
        before.push(temperature);
    }
    expected.sort();
    expected
}

#[test]
fn anomalies_are_those_of_a_naive_program_over_kills_and_rescaling() {
    let place = Place::new();
    let expected = write(&place, 3, 4_000);
    assert!(
        expected.iter().any(|(.., kind)| kind == "above_threshold") && expected.len() > 50,
        "{}",
        expected.len()
    );
    let arguments = |parallelism: &'static str| {
        [
            "--input",
            "in",
            "--output",
            "out",
            "--dead-letters",
            "dead",
            "--checkpoint-dir",
            "ck",
            "--window",
            "8",
            "--z-score",
            "3",
        ]
        .into_iter()
        .chain(["--checkpoint-interval", "20ms", "--parallelism", parallelism])
        .collect::<Vec<_>>()
    };
    for (parallelism, failpoint) in [("2", "snapshot.linked=return"), ("1", "sink.after_rename=return")] {
        let variables = [("FAILPOINTS", failpoint)];
        let mut dies = Running::start_with(&place, JOB, &arguments(parallelism), &variables);
        assert!(!dies.wait().success(), "{failpoint}: {}", dies.said());
    }
    let finished = run(&place, JOB, &arguments("3"));
    assert!(finished.status.success(), "{}", said(&finished));
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let anomaly = |row: &serde_json::Value| {
        (text(row, "device_id"), row["timestamp"].as_i64().unwrap(), text(row, "kind"))
    };
    let mut found: Vec<_> = place.rows("out").iter().map(anomaly).collect();
    found.sort();
    assert_eq!(found, expected);
}
