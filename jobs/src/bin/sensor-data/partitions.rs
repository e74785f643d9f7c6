//! The partition files that are written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The partition files, each behind a buffer.
pub(crate) struct Partitions(Vec<BufWriter<File>>);

impl Partitions {
    pub(crate) fn open(dir: &Path, count: u64) -> Result<Partitions, String> {
        let open = |p: u64| {
            let path = dir.join(format!("part-{p}.jsonl"));
            open_partition(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))
        };
        (0..count).map(open).collect::<Result<_, _>>().map(Partitions)
    }

    pub(crate) fn write(&mut self, partition: usize, line: &[u8]) -> Result<(), String> {
        self.0[partition].write_all(line).map_err(|e| format!("cannot write to part-{partition}.jsonl: {e}"))
    }

    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.0.iter_mut().try_for_each(Write::flush).map_err(|e| format!("cannot write to a partition: {e}"))
    }
}

/// Opens for appending, and ends a last line that lacks its newline.
fn open_partition(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let whole = tail(&mut file, 1)?.last().is_none_or(|b| *b == b'\n');
    let mut writer = BufWriter::with_capacity(256 << 10, file);
    if !whole {
        writer.write_all(b"\n")?;
    }
    Ok(writer)
}

fn tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut read = Vec::new();
    file.read_to_end(&mut read)?;
    Ok(read)
}

pub(crate) fn partition_files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("cannot list {}: {e}", dir.display()))?;
    let is_partition = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("part-") && name.ends_with(".jsonl")
    };
    Ok(entries.filter_map(|e| Some(e.ok()?.path())).filter(is_partition).collect())
}

/// The newest event time near the ends of the files.
pub(crate) fn last_timestamp(files: &[PathBuf]) -> Result<Option<u64>, String> {
    let mut newest = None;
    for path in files {
        let read = File::open(path).and_then(|mut f| tail(&mut f, 16 << 10));
        let read = read.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        newest = newest.max(timestamps(&read).max());
    }
    Ok(newest)
}

pub(crate) fn timestamps(rows: &[u8]) -> impl Iterator<Item = u64> + '_ {
    #[derive(serde::Deserialize)]
    struct Row {
        timestamp: u64,
    }
    rows.split(|b| *b == b'\n').filter_map(|l| Some(serde_json::from_slice::<Row>(l).ok()?.timestamp))
}
