//! The ledger on disk: records, numbered from 1, in a RocksDB that is synced before a record counts.
//!
//! One thread writes. It takes all records that wait, writes them together with one sync, and reports each as committed, in
//! order. After so many records the facts that follow from them are written as a whole, and the records before are deleted.
//! If the disk cannot be written to, the records wait until it can: nothing that needs them happens meanwhile.
//!
//! This is the seam for several jobmanagers: whoever proposes a record learns that it is committed, and not how.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};
use tidegate_control::cluster::{Ledger, Record};
use tidegate_protocol::{Error, ErrorContext, Result};

/// The key of the facts as a whole, which sorts before the records.
const FACTS: &[u8] = b"facts";
/// The first byte of a record's key.
const RECORD: u8 = b'r';
/// After so many records the facts are written as a whole.
const COMPACT: u64 = 10_000;
/// How long to wait before a write that has failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The facts up to a record, as they are written.
#[derive(Serialize, Deserialize)]
struct Facts {
    /// The number of the last record in them.
    last: u64,
    ledger: Ledger,
}

/// The log of records.
pub(crate) struct Log {
    db: DB,
    /// The number of the last record.
    last: u64,
    /// The number of the last record in the facts that are written as a whole.
    compacted: u64,
    ledger: Ledger,
}

impl Log {
    /// Opens the log in a directory, and returns it with the facts that follow from it.
    pub(crate) fn open(data: &Path) -> Result<(Self, Ledger)> {
        let path = data.join("ledger");
        std::fs::create_dir_all(data).context(|| format!("make the data directory {}", data.display()))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        // Facts about jobs are few, and are read only here.
        options.set_write_buffer_size(4 << 20);
        options.set_max_background_jobs(1);
        options.set_keep_log_file_num(1);
        let opened = DB::open(&options, &path);
        let db = opened.map_err(|e| {
            Error::environment(format!(
                "cannot open the ledger {} (another jobmanager may use it; --data names another directory)",
                path.display()
            ))
            .caused_by(e)
        })?;
        let facts = db.get(FACTS).map_err(cannot_read)?;
        let facts: Option<Facts> =
            facts.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|e| damaged(&e))?;
        let Facts { mut last, mut ledger } = facts.unwrap_or(Facts { last: 0, ledger: Ledger::default() });
        let compacted = last;
        for row in db.iterator(IteratorMode::From(&key(last + 1), Direction::Forward)) {
            let (key_found, bytes) = row.map_err(cannot_read)?;
            last += 1;
            if *key_found != key(last) {
                return Err(damaged(&format!("record {last} is missing")));
            }
            let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(&e))?;
            ledger.apply(&record);
        }
        Ok((Self { db, last, compacted, ledger: ledger.clone() }, ledger))
    }

    /// Starts the thread that writes. `committed` is called for every record once it is durable, in order.
    pub(crate) fn start(self, committed: impl Fn(Record) + Send + 'static) -> Result<Sender<Record>> {
        let (propose, proposed) = channel();
        let run = move || self.run(&proposed, &committed);
        std::thread::Builder::new().name("ledger".to_owned()).spawn(run)?;
        Ok(propose)
    }

    fn run(mut self, proposed: &Receiver<Record>, committed: &dyn Fn(Record)) {
        while let Ok(first) = proposed.recv() {
            let records: Vec<Record> = std::iter::once(first).chain(proposed.try_iter()).collect();
            while let Err(error) = self.append(&records) {
                tracing::warn!(target: "tidegate", "the ledger cannot be written to, and everything waits for it: {error}");
                std::thread::sleep(AGAIN);
            }
            for record in records {
                self.ledger.apply(&record);
                committed(record);
            }
            if self.last - self.compacted >= COMPACT
                && let Err(error) = self.compact()
            {
                tracing::warn!(target: "tidegate", "the ledger cannot be compacted: {error}");
            }
        }
    }

    /// Writes records, durably.
    fn append(&mut self, records: &[Record]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (number, record) in (self.last + 1..).zip(records) {
            batch.put(key(number), serde_json::to_vec(record)?);
        }
        self.db.write_opt(batch, &synced()).map_err(cannot_write)?;
        self.last += records.len() as u64;
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let facts = Facts { last: self.last, ledger: self.ledger.clone() };
        let mut batch = WriteBatch::default();
        batch.put(FACTS, serde_json::to_vec(&facts)?);
        batch.delete_range(key(0), key(self.last + 1));
        self.db.write_opt(batch, &synced()).map_err(cannot_write)?;
        self.compacted = self.last;
        Ok(())
    }
}

fn key(number: u64) -> [u8; 9] {
    let mut key = [RECORD; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn cannot_read(error: rocksdb::Error) -> Error {
    Error::environment("the ledger cannot be read").caused_by(error)
}

fn cannot_write(error: rocksdb::Error) -> Error {
    Error::environment("write to the ledger").caused_by(error)
}

fn damaged(why: &dyn std::fmt::Display) -> Error {
    Error::environment(format!(
        "the ledger is damaged: {why}; restore the data directory from a copy, or begin with an empty one and submit the jobs \
         again with -s and their checkpoint directories"
    ))
}

#[cfg(test)]
mod tests {
    use tidegate_control::cluster::{Done, Ending};
    use tidegate_protocol::JobId;

    use super::*;

    fn ended(job: u8) -> Record {
        Record::Ended { job: JobId([job; 16]), ending: Ending::Canceled, at_ms: 7, done: Done::default() }
    }

    #[test]
    fn records_are_committed_in_order_and_are_there_after_a_restart_and_a_compaction() {
        let place = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let (mut log, _) = Log::open(place.path()).unwrap();
            assert_eq!(log.last, 2 * round);
            log.append(&[ended(1), ended(2)]).unwrap();
            if round == 1 {
                log.compact().unwrap();
            }
        }
        let (log, _) = Log::open(place.path()).unwrap();
        assert_eq!((log.last, log.compacted), (6, 4));
        let (tell, told) = channel();
        let propose = log.start(move |record| tell.send(record).unwrap()).unwrap();
        (0..5).for_each(|job| propose.send(ended(job)).unwrap());
        assert_eq!(
            (0..5).map(|_| told.recv().unwrap()).collect::<Vec<_>>(),
            (0..5).map(ended).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_ledger_that_is_in_use_or_has_a_gap_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(place.path()).unwrap();
        let error = Log::open(place.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("another jobmanager may use it"), "{error}");
        log.append(&[ended(1), ended(2), ended(3)]).unwrap();
        log.db.delete(key(2)).unwrap();
        drop(log);
        let error = Log::open(place.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("record 2 is missing"), "{error}");
    }
}
