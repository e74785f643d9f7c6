//! Where the job of a round reads and writes: directories, or topics.

use crate::cluster::brokers::StormBrokers;
use crate::cluster::feeder::{FedLog, Inlet};
use crate::cluster::options::StormOptions;
use crate::cluster::published::{Published, PublishedFiles, PublishedTopics};
use crate::failure::{Context, Failure, Result};
use crate::topics::Topics;
use crate::topics::blocked::Bounds;
use crate::topics::producer::Producer;
use crate::workbench::Workbench;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Partitions of the topic of the output.
const OUTPUT_PARTITIONS: usize = 3;
/// A publishing, the transaction of the output of one checkpoint, takes a few milliseconds; on a busy machine no more than this.
const PUBLISHING: Duration = Duration::from_secs(2);
/// Brokers look for transactions beyond their timeout every second; on a busy machine they have done so after this time.
const ABORTED: Duration = Duration::from_secs(4);

/// Input, output and dead letters of one job.
pub enum Endpoints {
    /// Directories: that of the input, and those of the workbench.
    Files(PathBuf),
    /// Topics.
    Topics(RoundTopics),
}

/// The topics of one job.
pub struct RoundTopics {
    topics: Topics,
    input: String,
    output: String,
    dead_letters: String,
    transaction_timeout: Duration,
}

impl Endpoints {
    /// Directories in `dir`; or topics, which are made.
    pub fn new(dir: &Path, brokers: Option<&StormBrokers>, options: &StormOptions) -> Result<Endpoints> {
        let Some(brokers) = brokers else { return Ok(Endpoints::Files(dir.join("fed"))) };
        let round = dir.file_name().unwrap_or_default().to_string_lossy();
        let topics = RoundTopics {
            topics: brokers.topics.clone(),
            input: format!("sensor-data-{round}"),
            output: format!("alert-signals-{round}"),
            dead_letters: format!("dead-letters-{round}"),
            transaction_timeout: Duration::from_secs(options.transaction_timeout),
        };
        topics.topics.create(&topics.input, options.partitions as usize)?;
        topics.topics.create(&topics.output, OUTPUT_PARTITIONS)?;
        topics.topics.create(&topics.dead_letters, 1)?;
        Ok(Endpoints::Topics(topics))
    }

    /// The topic of the input, if it is one.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Endpoints::Files(_) => None,
            Endpoints::Topics(topics) => Some(&topics.input),
        }
    }

    /// Where the feeder feeds.
    pub fn inlet(&self) -> Result<Inlet> {
        match self {
            Endpoints::Files(fed) => Ok(Inlet::Directory(fed.clone())),
            Endpoints::Topics(topics) => {
                Ok(Inlet::Topic(Arc::new(Producer::new(&topics.topics)?), topics.input.clone()))
            }
        }
    }

    /// The arguments by which the job is told.
    pub fn arguments(&self, bench: &Workbench) -> Vec<String> {
        let flags = |input: String, output: String, dead_letters: String| {
            let flags = [("--input", input), ("--output", output), ("--dead-letters", dead_letters)];
            flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect::<Vec<_>>()
        };
        match self {
            Endpoints::Files(fed) => {
                let [fed, output, dead_letters] =
                    [fed, &bench.output, &bench.dead_letters].map(|path| path.to_string_lossy().into_owned());
                flags(fed, output, dead_letters)
            }
            Endpoints::Topics(topics) => {
                let [input, output, dead_letters] = [&topics.input, &topics.output, &topics.dead_letters]
                    .map(|topic| format!("kafka:{topic}"));
                let mut words = flags(input, output, dead_letters);
                let bootstrap = format!("bootstrap.servers={}", topics.topics.bootstrap());
                let timeout = format!("transaction.timeout.ms={}", topics.transaction_timeout.as_millis());
                words.extend(["--kafka".to_owned(), bootstrap, "--kafka".to_owned(), timeout]);
                words
            }
        }
    }

    /// A reader of what the job publishes.
    pub fn published(&self, bench: &Workbench, fed: Arc<FedLog>) -> Result<Box<dyn Published>> {
        match self {
            Endpoints::Files(_) => Ok(Box::new(PublishedFiles::new(&bench.output, &bench.dead_letters))),
            Endpoints::Topics(topics) => {
                let bounds =
                    Bounds { undisturbed: PUBLISHING, disturbed: topics.transaction_timeout + ABORTED };
                let names = [(topics.output.clone(), OUTPUT_PARTITIONS), (topics.dead_letters.clone(), 1)];
                Ok(Box::new(PublishedTopics::new(&topics.topics, names, bounds, fed)?))
            }
        }
    }

    /// The directory with all that was fed, as partition files. What is in a topic must be what was written to it.
    pub fn fed(&self, bench: &Workbench, patience: Duration) -> Result<PathBuf> {
        let topics = match self {
            Endpoints::Files(fed) => return Ok(fed.clone()),
            Endpoints::Topics(topics) => topics,
        };
        let dir = bench.input.with_file_name("fed");
        fs::create_dir_all(&dir).context(format!("cannot create {}", dir.display()))?;
        for (number, partition) in topics.topics.read(&topics.input, patience)?.iter().enumerate() {
            let name = format!("part-{number}.jsonl");
            if !begins_with(&bench.input.join(&name), &partition.bytes)? {
                let topic = &topics.input;
                return Err(Failure::new(format!(
                    "partition {number} of {topic} is not what was written to it: this storm proves nothing"
                )));
            }
            let path = dir.join(name);
            fs::write(&path, &partition.bytes).context(format!("cannot write {}", path.display()))?;
        }
        Ok(dir)
    }
}

fn begins_with(path: &Path, bytes: &[u8]) -> Result<bool> {
    let file = File::open(path).context(format!("cannot open {}", path.display()))?;
    let mut begin = Vec::new();
    let read = BufReader::new(file).take(bytes.len() as u64).read_to_end(&mut begin);
    read.context(format!("cannot read {}", path.display()))?;
    Ok(begin == bytes)
}
