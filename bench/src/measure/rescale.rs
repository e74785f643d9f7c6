//! What a rescale and a savepoint cost a job with much state: the longest time without published output.

use crate::Result;
use crate::cluster::Cluster;
use crate::published::{self, Published};
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::table::Table;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Keys of 100 bytes: 1 GB of state.
const KEYS: u64 = 10_000_000;
const FLAGS: &str = "--bytes 100 --partitions 4 --rate 2000 --seconds 3600 --memory 256MB";
const INTERVAL: &str = "checkpoint.interval=100ms";
/// So long a job may take to touch all keys, or to come back from a rescale.
const PATIENCE: Duration = Duration::from_secs(600);

struct Running {
    cluster: Cluster,
    job: String,
    output: PathBuf,
}

/// One job: all keys with one worker, then a savepoint, then 4 workers, then 2.
pub fn take(setting: &Setting) -> Result<Table> {
    let title = format!("{} M keys of 100 bytes, 2,000 updates/s, {INTERVAL}", KEYS / 1_000_000);
    let mut table = Table::new(title, &["what", "gap p50 ms", "p99", "most", "seconds in all", "goal"]);
    let cluster = Cluster::start(setting, 2, 2)?;
    let output = setting.path("rescale-output");
    let mut arguments: Vec<String> = FLAGS.split_whitespace().map(str::to_owned).collect();
    arguments.extend(["--keys".to_owned(), KEYS.to_string()]);
    arguments.extend(["--output".to_owned(), output.to_string_lossy().into_owned()]);
    let job = cluster.submit(&["-p", "1", "-D", INTERVAL], &setting.beside("bench-keys")?, &arguments)?;
    let running = Running { cluster, job, output };
    running.until_updates()?;
    table.row(running.during("nothing", "-", || {
        std::thread::sleep(Duration::from_secs(10));
        Ok(())
    })?);
    let savepoint = setting.path("rescale-savepoint").to_string_lossy().into_owned();
    table.row(running.during("savepoint", "50 beyond nothing", || {
        running.cluster.json(&["savepoint", &running.job, &savepoint]).map(drop)
    })?);
    for workers in [4, 2] {
        let name = format!("rescale to {workers}");
        table.row(running.during(&name, "1000", || running.rescale(workers))?);
    }
    table.note("A gap is from one published file to the next. Both workers and all that checks, copies and writes share two cores.");
    Ok(table)
}

impl Running {
    /// Waits until all keys have been touched: from then on there is little output, as many records as updates.
    fn until_updates(&self) -> Result<()> {
        let began = Instant::now();
        while !has_churn(&self.output) {
            if began.elapsed() > PATIENCE {
                return Err(format!("not all keys were touched after {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        // RocksDB still merges what came in all at once.
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    }

    fn rescale(&self, workers: u32) -> Result<()> {
        self.cluster.json(&["rescale", &self.job, "-p", &workers.to_string()])?;
        self.cluster.runs(&self.job, workers).map(drop)
    }

    /// What becomes visible while something is done, and two seconds longer.
    fn during(&self, name: &str, goal: &str, act: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
        let (from, began) = (published::now(), Instant::now());
        act()?;
        let seconds = began.elapsed().as_secs_f64();
        let done = published::now();
        let began = Instant::now();
        while !Published::in_directory(&self.output)?.is_later_than(done + Duration::from_secs(2)) {
            if began.elapsed() > PATIENCE {
                return Err(format!("{name}: no output after {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let gaps = Published::in_directory(&self.output)?.gaps(from, published::now());
        // The files of one epoch become visible together.
        let gaps = Figures::of(gaps.into_iter().map(|gap| gap.as_secs_f64() * 1e3).filter(|gap| *gap > 20.0));
        let cells = [name.to_owned()].into_iter().chain(gaps.cells());
        Ok(cells.chain([format!("{seconds:.1}"), goal.to_owned()]).collect())
    }
}

/// Whether a key was updated that had been touched before, which the job writes as `true`.
fn has_churn(output: &Path) -> bool {
    let newest = std::fs::read_dir(output).into_iter().flatten().flatten();
    let visible = newest.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let newest = visible.max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok());
    newest
        .and_then(|entry| std::fs::read_to_string(entry.path()).ok())
        .is_some_and(|text| text.contains("true"))
}
