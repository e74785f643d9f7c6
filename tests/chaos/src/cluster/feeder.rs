//! The input that grows: a finished input is appended to the one that the job follows, at a rate: to files cut anywhere, to a
//! topic line by line.

use crate::failure::{Context, Failure, Result};
use crate::rng::Rng;
use crate::topics::producer::Producer;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often something is appended.
const STEP: Duration = Duration::from_millis(20);
/// A piece ends up to so many bytes before where the rate says.
const JITTER_BYTES: u64 = 200;
/// Brokers that come back take what waits for them in this time.
const FLUSH: Duration = Duration::from_secs(60);

/// Feeds a job on a thread of its own.
pub struct Feeder {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<bool>>>,
}

struct Control {
    rows_a_second: AtomicU64,
    ends: AtomicBool,
    fed: Arc<FedLog>,
}

/// How many rows of each partition were fed by when.
#[derive(Default)]
pub struct FedLog(Mutex<Vec<(SystemTime, Vec<u64>)>>);

impl FedLog {
    fn note(&self, rows: Vec<u64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((SystemTime::now(), rows));
    }

    /// So many at least as were fed by `at`; None if nothing was noted since then.
    pub fn by(&self, at: SystemTime) -> Option<Vec<u64>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = log.partition_point(|(noted, _)| *noted < at);
        log.get(next).map(|(_, rows)| rows.clone())
    }
}

/// Where rows are fed to.
pub enum Inlet {
    /// The partition files of a directory, which is created.
    Directory(PathBuf),
    /// A topic.
    Topic(Arc<Producer>, String),
}

/// A partition, as far as it was fed.
struct Partition {
    source: BufReader<File>,
    target: Target,
    bytes: u64,
    fed: u64,
    rows: u64,
}

/// Where a partition is fed to.
enum Target {
    File(File),
    Topic(PartitionOfTopic),
}

struct PartitionOfTopic {
    producer: Arc<Producer>,
    topic: String,
    number: usize,
    /// A row for which there was no room: the brokers are away.
    waiting: Vec<u8>,
}

impl Feeder {
    /// Feeds from the partitions in `source`, part-0.jsonl into partition 0.
    pub fn start(source: &Path, inlet: &Inlet, rows: u64, rate: u64, seed: u64) -> Result<Feeder> {
        let entries = fs::read_dir(source).context(format!("cannot list {}", source.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort();
        let partitions: Result<Vec<Partition>> =
            paths.iter().map(|path| Partition::open(path, inlet.target(path)?)).collect();
        let control = Control {
            rows_a_second: AtomicU64::new(rate),
            ends: AtomicBool::new(false),
            fed: Arc::default(),
        };
        let (control, mut partitions) = (Arc::new(control), partitions?);
        let its = control.clone();
        let feed = move || feed(&its, &mut partitions, rows, &mut Rng::new(seed));
        let thread = std::thread::Builder::new().name("feeder".into()).spawn(feed);
        Ok(Feeder { control, thread: Some(thread.context("cannot start the feeder")?) })
    }

    /// What was fed by when.
    pub fn fed(&self) -> Arc<FedLog> {
        self.control.fed.clone()
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
        control.fed.note(partitions.iter().map(|partition| partition.rows).collect());
        std::thread::sleep(STEP);
    }
    partitions.iter_mut().try_for_each(Partition::end)?;
    Ok(share < 1.0)
}

impl Inlet {
    /// The target of a partition's file.
    fn target(&self, path: &Path) -> Result<Target> {
        let name = path.file_name().unwrap_or_default();
        match self {
            Inlet::Directory(dir) => {
                fs::create_dir_all(dir).context(format!("cannot create {}", dir.display()))?;
                let target = dir.join(name);
                let opened = File::options().create(true).append(true).open(&target);
                Ok(Target::File(opened.context(format!("cannot create {}", target.display()))?))
            }
            Inlet::Topic(producer, topic) => {
                let number =
                    path.file_stem().unwrap_or_default().to_string_lossy().replace("part-", "").parse();
                let number = number.context(format!("{} is no partition", path.display()))?;
                let (producer, topic) = (producer.clone(), topic.clone());
                Ok(Target::Topic(PartitionOfTopic { producer, topic, number, waiting: Vec::new() }))
            }
        }
    }
}

impl Partition {
    fn open(path: &Path, target: Target) -> Result<Partition> {
        let source = File::open(path).context(format!("cannot open {}", path.display()))?;
        let bytes = source.metadata().context("cannot look at the input")?.len();
        Ok(Partition { source: BufReader::new(source), target, bytes, fed: 0, rows: 0 })
    }

    fn feed(&mut self, to: u64) -> Result<()> {
        match &mut self.target {
            Target::File(_) => {
                let mut piece = Vec::new();
                let more = to.saturating_sub(self.fed);
                self.source.by_ref().take(more).read_to_end(&mut piece).context("cannot read the input")?;
                self.append(&piece)
            }
            Target::Topic(target) => {
                target.producer.poll(&target.topic)?;
                while self.fed < to {
                    if target.waiting.is_empty() {
                        self.source
                            .read_until(b'\n', &mut target.waiting)
                            .context("cannot read the input")?;
                    }
                    if target.waiting.is_empty() || !target.send()? {
                        break;
                    }
                    self.fed += target.waiting.len() as u64;
                    self.rows += 1;
                    target.waiting.clear();
                }
                Ok(())
            }
        }
    }

    /// Feeds the rest of the line that was begun.
    fn end(&mut self) -> Result<()> {
        match &self.target {
            Target::File(_) => {
                let mut piece = Vec::new();
                self.source.read_until(b'\n', &mut piece).context("cannot read the input")?;
                self.append(&piece)
            }
            Target::Topic(target) => target.producer.flush(&target.topic, FLUSH),
        }
    }

    fn append(&mut self, piece: &[u8]) -> Result<()> {
        if let Target::File(file) = &mut self.target {
            file.write_all(piece).context("cannot append to the input")?;
        }
        self.fed += piece.len() as u64;
        self.rows += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(())
    }
}

impl PartitionOfTopic {
    /// The newline at the end of a row is no part of the message.
    fn send(&self) -> Result<bool> {
        let row = self.waiting.strip_suffix(b"\n").unwrap_or(&self.waiting);
        self.producer.send(&self.topic, self.number, row)
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
        let mut feeder =
            Feeder::start(&source, &Inlet::Directory(target.clone()), 100_000, 50_000, 1).expect("started");
        std::thread::sleep(Duration::from_millis(200));
        feeder.set_rate(1_000);
        let log = feeder.fed();
        assert!(log.by(SystemTime::UNIX_EPOCH).is_some_and(|rows| rows.len() == 1 && rows[0] < 100_000));
        assert_eq!(
            log.by(SystemTime::now() + Duration::from_secs(60)),
            None,
            "nothing is known of the future"
        );
        feeder.end().expect("not at the end");
        let fed = fs::read_to_string(target.join("part-0.jsonl")).expect("fed");
        assert!(all.starts_with(&fed) && fed.ends_with('\n'));
        assert!(fed.len() > 1_000 && fed.len() < all.len());
    }

    #[test]
    fn an_input_that_is_too_short_is_an_obstacle() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("part-0.jsonl"), "{}\n").expect("written");
        let inlet = Inlet::Directory(dir.path().join("input"));
        let mut feeder = Feeder::start(dir.path(), &inlet, 1, 1_000, 1).expect("started");
        std::thread::sleep(Duration::from_millis(200));
        assert!(feeder.end().is_err());
    }
}
