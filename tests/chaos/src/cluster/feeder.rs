//! The input that grows: a finished input is appended to the one that the job follows, at a rate, cut anywhere.

use crate::failure::{Context, Failure, Result};
use crate::rng::Rng;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often something is appended.
const STEP: Duration = Duration::from_millis(20);
/// A piece ends up to so many bytes before where the rate says.
const JITTER_BYTES: u64 = 200;

/// Feeds a job on a thread of its own.
pub struct Feeder {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<bool>>>,
}

struct Control {
    rows_a_second: AtomicU64,
    ends: AtomicBool,
}

/// A partition, as far as it was fed.
struct Partition {
    source: BufReader<File>,
    target: File,
    bytes: u64,
    fed: u64,
}

impl Feeder {
    /// Feeds from the partitions in `source` into those in `target`, which are created empty.
    pub fn start(source: &Path, target: &Path, rows: u64, rate: u64, seed: u64) -> Result<Feeder> {
        fs::create_dir_all(target).context(format!("cannot create {}", target.display()))?;
        let entries = fs::read_dir(source).context(format!("cannot list {}", source.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort();
        let partitions: Result<Vec<Partition>> =
            paths.iter().map(|path| Partition::open(path, target)).collect();
        let control = Control { rows_a_second: AtomicU64::new(rate), ends: AtomicBool::new(false) };
        let (control, mut partitions) = (Arc::new(control), partitions?);
        let its = control.clone();
        let feed = move || feed(&its, &mut partitions, rows, &mut Rng::new(seed));
        let thread = std::thread::Builder::new().name("feeder".into()).spawn(feed);
        Ok(Feeder { control, thread: Some(thread.context("cannot start the feeder")?) })
    }

    /// Feeds at another rate from now on.
    pub fn set_rate(&self, rows_a_second: u64) {
        self.control.rows_a_second.store(rows_a_second, Ordering::Relaxed);
    }

    /// Feeds the rest of every line that was begun, and no more.
    pub fn end(&mut self) -> Result<()> {
        self.control.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| Failure::new("the feeder has ended before"))?;
        let had_enough = thread.join().map_err(|_| Failure::new("the feeder has panicked"))??;
        if had_enough { Ok(()) } else { Err(Failure::new("the input was too short for this storm")) }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.control.ends.store(true, Ordering::Relaxed);
    }
}

/// Feeds until it is told to end; false if there was nothing left before.
fn feed(control: &Control, partitions: &mut [Partition], rows: u64, rng: &mut Rng) -> Result<bool> {
    let (mut share, mut last) = (0.0_f64, Instant::now());
    while !control.ends.load(Ordering::Relaxed) {
        let now = Instant::now();
        let rate = control.rows_a_second.load(Ordering::Relaxed) as f64;
        share = (share + rate * now.duration_since(last).as_secs_f64() / rows as f64).min(1.0);
        last = now;
        for partition in partitions.iter_mut() {
            let to = (partition.bytes as f64 * share) as u64;
            partition.feed(to.saturating_sub(rng.below(JITTER_BYTES)))?;
        }
        std::thread::sleep(STEP);
    }
    partitions.iter_mut().try_for_each(Partition::end_line)?;
    Ok(share < 1.0)
}

impl Partition {
    fn open(path: &Path, target: &Path) -> Result<Partition> {
        let source = File::open(path).context(format!("cannot open {}", path.display()))?;
        let bytes = source.metadata().context("cannot look at the input")?.len();
        let target = target.join(path.file_name().unwrap_or_default());
        let opened = File::options().create(true).append(true).open(&target);
        let target = opened.context(format!("cannot create {}", target.display()))?;
        Ok(Partition { source: BufReader::new(source), target, bytes, fed: 0 })
    }

    fn feed(&mut self, to: u64) -> Result<()> {
        let mut piece = Vec::new();
        let more = to.saturating_sub(self.fed);
        self.source.by_ref().take(more).read_to_end(&mut piece).context("cannot read the input")?;
        self.put(&piece)
    }

    fn end_line(&mut self) -> Result<()> {
        let mut piece = Vec::new();
        self.source.read_until(b'\n', &mut piece).context("cannot read the input")?;
        self.put(&piece)
    }

    fn put(&mut self, piece: &[u8]) -> Result<()> {
        self.target.write_all(piece).context("cannot append to the input")?;
        self.fed += piece.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fed_is_a_prefix_of_whole_lines() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (source, target) = (dir.path().join("all"), dir.path().join("input"));
        fs::create_dir(&source).expect("a directory");
        let all: String = (0..100_000).map(|n| format!("{{\"row\":{n}}}\n")).collect();
        fs::write(source.join("part-0.jsonl"), &all).expect("written");
        let mut feeder = Feeder::start(&source, &target, 100_000, 50_000, 1).expect("started");
        std::thread::sleep(Duration::from_millis(200));
        feeder.set_rate(1_000);
        feeder.end().expect("not at the end");
        let fed = fs::read_to_string(target.join("part-0.jsonl")).expect("fed");
        assert!(all.starts_with(&fed) && fed.ends_with('\n'));
        assert!(fed.len() > 1_000 && fed.len() < all.len());
    }

    #[test]
    fn an_input_that_is_too_short_is_an_obstacle() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("part-0.jsonl"), "{}\n").expect("written");
        let mut feeder = Feeder::start(dir.path(), &dir.path().join("input"), 1, 1_000, 1).expect("started");
        std::thread::sleep(Duration::from_millis(200));
        assert!(feeder.end().is_err());
    }
}
