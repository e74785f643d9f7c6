//! The manifests of a job's snapshots, read from outside: how far the job has come, and how large its state is.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A snapshot's manifest.
pub struct Manifest {
    epoch: u64,
    json: Value,
}

/// Epoch and path of every manifest in a checkpoint directory.
pub fn all(checkpoints: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(checkpoints).into_iter().flatten().flatten();
    let epoch = |path: &Path| {
        path.file_name()?.to_str()?.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok()
    };
    entries.filter_map(|entry| Some((epoch(&entry.path())?, entry.path()))).collect()
}

impl Manifest {
    /// The manifest of the newest snapshot; None if there is none.
    pub fn newest(checkpoints: &Path) -> Option<Manifest> {
        let (epoch, path) = all(checkpoints).into_iter().max()?;
        Manifest::read(&path, epoch)
    }

    /// The manifest in a file; None if it is gone or is none.
    pub fn read(path: &Path, epoch: u64) -> Option<Manifest> {
        Manifest::parse(&fs::read(path).ok()?, epoch)
    }

    /// A checksum stands before the JSON.
    fn parse(text: &[u8], epoch: u64) -> Option<Manifest> {
        let start = text.iter().position(|b| *b == b'{')?;
        Some(Manifest { epoch, json: serde_json::from_slice(&text[start..]).ok()? })
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn slots(&self) -> impl Iterator<Item = &Value> {
        self.json["slots"].as_object().into_iter().flat_map(|slots| slots.values())
    }

    /// The records that an operator had taken in.
    pub fn records_in(&self, operator: &str) -> u64 {
        let count = |slot: &Value| slot["operators"][operator]["counters"]["records_in"].as_u64();
        self.slots().filter_map(count).sum()
    }

    /// Bytes of the state's files that came with this snapshot, and of all that it names.
    pub fn state_bytes(&self) -> Option<(u64, u64)> {
        let (mut new, mut all) = (0, 0);
        let stores = self.slots().filter_map(|slot| slot["store"].as_object());
        for file in stores.flat_map(|files| files.values()) {
            let (path, bytes) = (file["path"].as_str()?, file["bytes"].as_u64()?);
            // files/<attempt>-<slot>-<epoch>-<name>
            let came_with: u64 = path.split('-').nth(2)?.parse().ok()?;
            all += bytes;
            new += if came_with == self.epoch { bytes } else { 0 };
        }
        Some((new, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_tells_the_size_of_the_state_and_how_far_the_job_has_come() {
        let slot = |epoch: u64, rows: u64| {
            serde_json::json!({
                "store": {"a.sst": {"path": format!("files/1-0-{epoch}-a.sst"), "bytes": 30}},
                "operators": {"readings": {"counters": {"records_in": rows}}}
            })
        };
        let text = format!("crc32 1\n{}", serde_json::json!({"slots": {"0": slot(7, 5), "1": slot(8, 6)}}));
        let dir = tempfile::tempdir().expect("a directory");
        for epoch in [7, 8] {
            fs::write(dir.path().join(format!("manifest-{epoch:011}.json")), &text).expect("a manifest");
        }
        fs::write(dir.path().join("LOCK"), "").expect("a file");
        let newest = Manifest::newest(dir.path()).expect("a manifest");
        assert_eq!((newest.epoch(), all(dir.path()).len()), (8, 2));
        assert_eq!((newest.state_bytes(), newest.records_in("readings")), (Some((30, 60)), 11));
    }
}
