//! What the sockets between processes cost: the job of `throughput` on a cluster, as one process with two workers, and as two
//! processes with one worker each.

use crate::Result;
use crate::cluster::Cluster;
use crate::setting::Setting;
use crate::table::Table;
use std::time::{Duration, Instant};

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Taskmanagers, and slots of each.
const SHAPES: [(&str, usize, u32); 2] = [("1 process x 2 workers", 1, 2), ("2 processes x 1 worker", 2, 1)];

/// Runs both shapes in turn, and takes the best of the rounds.
pub fn take(setting: &Setting) -> Result<Table> {
    let input = setting.input("cluster-input", &[])?;
    let mut best = [(f64::MAX, f64::MAX); 2];
    for _ in 0..setting.options.rounds {
        for (best, (_, taskmanagers, slots)) in best.iter_mut().zip(SHAPES) {
            let (cpu, wall) = run(setting, &input, taskmanagers, slots)?;
            *best = (best.0.min(cpu), best.1.min(wall));
        }
    }
    let head = ["shape", "CPU s / M rows", "ratio", "M rows/s", "ratio"];
    let title =
        format!("{} rows on a cluster, checkpoints every {}", setting.options.rows, setting.options.interval);
    let mut table = Table::new(title, &head);
    let millions = setting.options.rows as f64 / 1e6;
    for ((name, ..), (cpu, wall)) in SHAPES.iter().zip(best) {
        table.row([
            (*name).to_owned(),
            format!("{:.3}", cpu / millions),
            format!("{:.2}", cpu / best[0].0),
            format!("{:.2}", millions / wall),
            format!("{:.2}", best[0].1 / wall),
        ]);
    }
    setting.clear()?;
    table.note(
        "CPU is that of the job processes, by the kernel's account. Goal: a ratio of CPU of at most 1.15.",
    );
    Ok(table)
}

/// CPU seconds of the job's processes, and seconds on the wall.
fn run(setting: &Setting, input: &std::path::Path, taskmanagers: usize, slots: u32) -> Result<(f64, f64)> {
    setting.clear()?;
    let cluster = Cluster::start(setting, taskmanagers, slots)?;
    let interval = format!("checkpoint.interval={}", setting.options.interval);
    let began = Instant::now();
    let arguments = setting.job_arguments(input);
    let job = cluster.submit(&["-p", "2", "-D", &interval], setting.job_executable(), &arguments)?;
    cluster.finishes(&job, PATIENCE)?;
    let wall = began.elapsed().as_secs_f64();
    // A process is accounted for once its taskmanager has waited for it.
    cluster.until("the job's processes have ended", |cluster| {
        cluster.info(&job).is_ok_and(|info| info["processes"].as_array().is_none_or(Vec::is_empty))
    })?;
    let cpu = cluster.taskmanagers.iter().map(|host| host.cpu_of_children()).sum::<Duration>();
    Ok((cpu.as_secs_f64(), wall))
}
