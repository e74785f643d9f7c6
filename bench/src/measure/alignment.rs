//! Alignment at full load: from the trigger of a checkpoint until an operator has everything before its barrier.

use crate::Result;
use crate::child::Watched;
use crate::metrics;
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::table::Table;
use std::collections::HashMap;
use std::time::Duration;

/// The job tells the time of its last barrier; it is asked more often than there are barriers.
const INTERVAL: &str = "100ms";
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the job with each number of workers, and asks for its metrics all the while.
pub fn take(setting: &Setting) -> Result<Table> {
    let input = setting.input("input", &[])?;
    let head = ["workers", "barriers", "p50 ms", "p99 ms", "most ms"];
    let mut table = Table::new(format!("Alignment at full load, a checkpoint every {INTERVAL}"), &head);
    for workers in &setting.options.workers {
        setting.clear()?;
        let address = metrics::free_address()?;
        let mut command = setting.job_every(INTERVAL, &input, *workers);
        command.args(["--metrics", &address.to_string()]);
        let mut told = Told::default();
        Watched::start(&mut command)?
            .until_end(PATIENCE, |_| told.add(&metrics::of(address).unwrap_or_default()))?;
        let figures = Figures::of(told.all.iter().map(|us| us / 1e3));
        table.row([workers.to_string(), figures.len().to_string()].into_iter().chain(figures.cells()));
    }
    setting.clear()?;
    table.note("Goal: p99 under 50 ms.");
    Ok(table)
}

/// What operators have told: a new value of the same one is a new barrier.
#[derive(Default)]
struct Told {
    last: HashMap<String, f64>,
    all: Vec<f64>,
}

impl Told {
    fn add(&mut self, metrics: &str) {
        for line in metrics.lines().filter(|line| line.starts_with("tidegate_alignment_microseconds{")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            if self.last.insert(series.into(), value) != Some(value) {
                self.all.push(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_once_until_it_changes() {
        let mut told = Told::default();
        let line = |us: u32| format!("tidegate_alignment_microseconds{{worker=\"0\"}} {us}\nother{{}} 3\n");
        [5, 5, 7, 7].iter().for_each(|us| told.add(&line(*us)));
        assert_eq!(told.all, [5.0, 7.0]);
    }
}
