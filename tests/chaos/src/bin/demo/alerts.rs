//! Three alerts, for a taste of what the job is for.

use crate::screen::{Screen, grouped};
use serde::Deserialize;
use std::collections::HashSet;
use tidegate_chaos::visible::{self, VisibleFile};

#[derive(Deserialize)]
struct Alert {
    device_id: String,
    window_start: u64,
    temp_std: f64,
    vibration_mean: f64,
    pressure_mean: f64,
    probability: f64,
    alert: bool,
}

/// Prints the three most probable, of three devices.
pub(crate) fn print(screen: &Screen, output: &[VisibleFile]) {
    let mut alerts = all(output);
    alerts.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    println!("\n  {}", screen.dim(&format!("three of {} alerts", grouped(alerts.len() as u64))));
    let mut devices = HashSet::new();
    alerts.retain(|a| devices.insert(a.device_id.clone()));
    alerts.iter().take(3).for_each(|alert| println!("  {}", line(screen, alert)));
}

fn all(output: &[VisibleFile]) -> Vec<Alert> {
    let rows = output.iter().flat_map(|file| visible::rows(&file.bytes));
    rows.filter_map(|row| serde_json::from_slice::<Alert>(row).ok()).filter(|alert| alert.alert).collect()
}

fn line(screen: &Screen, a: &Alert) -> String {
    let (device, time) = (screen.bold(&a.device_id), clock(a.window_start));
    let probability = screen.yellow(&format!("{:.2}", a.probability));
    format!(
        "{device}  {time}  temperature ±{:<5.2} vibration {:.4}  pressure {:<5.1}  failure {probability}",
        a.temp_std, a.vibration_mean, a.pressure_mean
    )
}

/// The window's time of day, UTC.
fn clock(start_ms: u64) -> String {
    let time = |ms: u64| format!("{:02}:{:02}", ms / 3_600_000 % 24, ms / 60_000 % 60);
    format!("{}-{}", time(start_ms), time(start_ms + 300_000))
}
