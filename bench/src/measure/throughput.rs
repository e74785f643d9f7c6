//! CPU seconds a million rows, rows a second and peak memory: the bare loop and the job, run in turn.

use crate::Result;
use crate::process::{self, Usage};
use crate::setting::Setting;
use crate::table::Table;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Runs the bare loop and the job with each number of workers, round by round, and takes the least of each figure.
pub fn take(setting: &Setting) -> Result<Table> {
    let input = setting.input("input", &[])?;
    let mut runs = Runs { bare: None, jobs: vec![None; setting.options.workers.len()] };
    for round in 1..=setting.options.rounds.max(1) {
        eprintln!("round {round} of {}", setting.options.rounds);
        runs.round(setting, &input)?;
    }
    runs.table(setting)
}

/// The best of each program so far.
struct Runs {
    bare: Option<Usage>,
    jobs: Vec<Option<Usage>>,
}

impl Runs {
    fn round(&mut self, setting: &Setting, input: &Path) -> Result<()> {
        keep_best(&mut self.bare, process::run(&mut setting.bare(input))?);
        let wanted = lines(&setting.path("bare.out"))?;
        for (best, workers) in self.jobs.iter_mut().zip(&setting.options.workers) {
            setting.clear()?;
            keep_best(best, setting.run_job(input, *workers)?);
            let written: usize = setting.visible("output").iter().map(|p| lines(p)).sum::<Result<usize>>()?;
            if written != wanted {
                return Err(format!(
                    "the job wrote {written} rows where the bare loop wrote {wanted}: no figure holds"
                ));
            }
        }
        setting.clear()
    }

    fn table(&self, setting: &Setting) -> Result<Table> {
        let options = &setting.options;
        let bare = self.bare.ok_or("no round was run")?;
        let title = format!(
            "{} M rows in {} partitions, {} checkpoints",
            millions(options.rows),
            options.partitions,
            options.interval
        );
        let head = ["run", "CPU s / M rows", "x bare", "M rows/s", "x bare", "peak MB"];
        let mut table = Table::new(title, &head);
        table.row(cells("bare loop", &bare, &bare, options.rows));
        for (usage, workers) in self.jobs.iter().flatten().zip(&options.workers) {
            let name = if *workers == 1 { "1 worker".into() } else { format!("{workers} workers") };
            table.row(cells(&name, usage, &bare, options.rows));
        }
        if let [Some(first), .., Some(last)] = self.jobs[..] {
            let ratio = first.wall.as_secs_f64() / last.wall.as_secs_f64();
            let (few, many) = (options.workers[0], options.workers[self.jobs.len() - 1]);
            table.note(format!(
                "{many} workers are {ratio:.2} times as fast as {few}. Least of {} rounds.",
                options.rounds
            ));
        }
        table.note(
            "Goals: with 1 worker CPU at most 1.25 and rows a second at least 0.8 times the bare loop's; 2 workers at \
             least 1.6 times as fast as 1; peak memory under 150 MB.",
        );
        Ok(table)
    }
}

fn keep_best(best: &mut Option<Usage>, usage: Usage) {
    *best = Some(best.map_or(usage, |b| b.best(usage)));
}

fn millions(rows: u64) -> f64 {
    rows as f64 / 1e6
}

fn cells(name: &str, usage: &Usage, bare: &Usage, rows: u64) -> [String; 6] {
    let (cpu, wall) = (usage.cpu.as_secs_f64(), usage.wall.as_secs_f64());
    [
        name.into(),
        format!("{:.3}", cpu / millions(rows)),
        format!("{:.2}", cpu / bare.cpu.as_secs_f64()),
        format!("{:.2}", millions(rows) / wall),
        format!("{:.2}", bare.wall.as_secs_f64() / wall),
        format!("{:.0}", usage.peak_bytes as f64 / 1e6),
    ]
}

/// Counts them piece by piece: a child's peak memory begins with what its parent has.
fn lines(path: &Path) -> Result<usize> {
    let count = || -> io::Result<usize> {
        let (mut file, mut piece, mut lines) = (fs::File::open(path)?, [0; 1 << 16], 0);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(lines),
                n => lines += memchr::memchr_iter(b'\n', &piece[..n]).count(),
            }
        }
    };
    count().map_err(|e| format!("cannot read {}: {e}", path.display()))
}
