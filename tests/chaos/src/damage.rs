//! A torn, flipped or lost file in the newest snapshot.
//!
//! Any file can be hit that the manifest names: state, staged output that is not published yet, or the manifest.
//! The damage goes into a new file under the old name, so that an older snapshot which shares the bytes by a
//! hard link keeps its own. The job must then fall back to the snapshot before and say so. It may refuse only if there is
//! no older one without the file, or if staged output is gone: that may have been published and taken away.

use crate::failure::{Context, Result};
use crate::rng::Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Words of which a job that has noticed says one.
pub const NOTICED: [&str; 7] =
    ["damaged", "checksum", "corrupt", "is not used", "is not the output", "are lost", "cannot read"];

/// A damaged file, and what it held before.
pub struct Damage {
    path: PathBuf,
    before: Vec<u8>,
    how: How,
    /// True if there is an older snapshot that does not need the file.
    spared: bool,
}

/// What was done to it.
#[derive(Clone, Copy)]
enum How {
    Cut { to: usize },
    Flip { byte: usize, bit: u8 },
    Lose,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, length) = (self.path.display(), self.before.len());
        match self.how {
            How::Cut { to } => write!(f, "{name} cut from {length} to {to} bytes"),
            How::Flip { byte, bit } => write!(f, "{name} ({length} bytes): bit {bit} of byte {byte} flipped"),
            How::Lose => write!(f, "{name} ({length} bytes) deleted"),
        }
    }
}

impl Damage {
    /// Damages one file of the newest snapshot under `checkpoints`, or none where there is no snapshot. What the
    /// snapshot has staged lies in the directories `staging`.
    pub fn newest(checkpoints: &Path, staging: &[&Path], rng: &mut Rng) -> Result<Option<Damage>> {
        let mut manifests = manifests(checkpoints);
        let Some(manifest) = manifests.pop() else { return Ok(None) };
        let mut files: Vec<PathBuf> = data_files(checkpoints, staging, &manifest)?.into_iter().collect();
        files.retain(|path| path.metadata().is_ok_and(|meta| meta.len() > 0));
        // The manifest itself is hit in one case of four. One that is gone is no damage: nobody knows of its snapshot.
        if rng.chance(25) || files.is_empty() {
            return Damage::of(manifest, false, !manifests.is_empty(), rng).map(Some);
        }
        let path = files.swap_remove(rng.below(files.len() as u64) as usize);
        let mut spared = false;
        for older in &manifests {
            spared |= !data_files(checkpoints, staging, older)?.contains(&path);
        }
        Damage::of(path, true, spared, rng).map(Some)
    }

    /// True if the job has no reason to refuse.
    pub fn is_avoidable(&self, checkpoints: &Path) -> bool {
        let lost_output = matches!(self.how, How::Lose) && !self.path.starts_with(checkpoints);
        self.spared && !lost_output
    }

    fn of(path: PathBuf, may_lose: bool, spared: bool, rng: &mut Rng) -> Result<Damage> {
        let before = fs::read(&path).context(format!("cannot read {}", path.display()))?;
        let length = before.len() as u64;
        let how = if may_lose && rng.chance(20) {
            How::Lose
        } else if rng.chance(50) {
            How::Cut { to: rng.below(length) as usize }
        } else {
            How::Flip { byte: rng.below(length) as usize, bit: rng.below(8) as u8 }
        };
        let damage = Damage { path, before, how, spared };
        damage.inflict()?;
        Ok(damage)
    }

    fn inflict(&self) -> Result<()> {
        let mut bytes = self.before.clone();
        match self.how {
            How::Cut { to } => bytes.truncate(to),
            How::Flip { byte, bit } => bytes[byte] ^= 1 << bit,
            How::Lose => {
                return fs::remove_file(&self.path).context(format!("cannot delete {}", self.path.display()));
            }
        }
        self.put(&bytes)
    }

    /// Puts the bytes back that were there before.
    pub fn repair(&self) -> Result<()> {
        self.put(&self.before)
    }

    fn put(&self, bytes: &[u8]) -> Result<()> {
        let aside = self.path.with_extension("chaos-tmp");
        fs::write(&aside, bytes).context(format!("cannot write {}", aside.display()))?;
        fs::rename(&aside, &self.path).context(format!("cannot replace {}", self.path.display()))
    }
}

/// The manifests, wherever they lie under `dir`, that of the greatest epoch last.
fn manifests(dir: &Path) -> Vec<PathBuf> {
    let mut files = BTreeSet::new();
    collect(dir, &mut files);
    let mut found: Vec<_> =
        files.into_iter().filter_map(|path| Some((epoch(&path, "manifest-")?, path))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The greatest epoch that any manifest under `dir` is named for, one that was set aside too; 0 where there is none.
pub fn newest_epoch(dir: &Path) -> u64 {
    let mut files = BTreeSet::new();
    collect(dir, &mut files);
    let epochs = files.iter().filter_map(|path| epoch(path, "manifest-").or_else(|| epoch(path, "damaged-")));
    epochs.max().unwrap_or(0)
}

/// The epoch in the name of a file called `<kind><epoch>.json`.
fn epoch(path: &Path, kind: &str) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(kind)?.strip_suffix(".json")?.parse().ok()
}

/// The newest manifest's path and bytes: they change when the job completes or drops a snapshot.
pub fn newest_snapshot(dir: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let path = manifests(dir).pop()?;
    let bytes = fs::read(&path).ok()?;
    Some((path, bytes))
}

/// The files that a manifest names, by any value in it that is a path: absolute, from the manifest's directory,
/// or from `root`. Nothing outside of `root` counts but what is hidden in a directory of `staging`.
fn data_files(root: &Path, staging: &[&Path], manifest: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = fs::read(manifest).context(format!("cannot read {}", manifest.display()))?;
    let mut names = BTreeSet::new();
    strings(&json(&text), &mut names);
    let mut known = BTreeSet::new();
    staging.iter().for_each(|dir| collect(dir, &mut known));
    known.retain(|path| path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")));
    collect(root, &mut known);
    let home = manifest.parent().unwrap_or(root);
    let paths = names.iter().flat_map(|name| [home.join(name), root.join(name)]);
    Ok(paths.filter(|path| known.contains(path)).collect())
}

/// The JSON in a manifest, whatever lines stand before it; nothing, if it is damaged.
fn json(text: &[u8]) -> Value {
    let start = text.iter().position(|b| *b == b'{').unwrap_or(0);
    serde_json::from_slice(&text[start..]).unwrap_or(Value::Null)
}

fn strings(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if !text.is_empty() => drop(into.insert(text.clone())),
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Value::Object(fields) => fields.values().for_each(|item| strings(item, into)),
        _ => {}
    }
}

fn collect(dir: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), into),
            Ok(kind) if kind.is_file() => drop(into.insert(entry.path())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
        fs::create_dir(dir.path().join("data")).expect("a directory");
        write("manifest-9.json", r#"{"files":[{"path":"data/old"}]}"#);
        write("manifest-10.json", "crc32 1234\n{\"files\":[{\"path\":\"data/new\"}]}\n");
        write("data/old", "old state");
        write("data/new", "new state");
        dir
    }

    #[test]
    fn only_files_of_the_newest_snapshot_are_damaged_and_can_be_repaired() {
        for seed in 0..50 {
            let dir = snapshots();
            let damage =
                Damage::newest(dir.path(), &[], &mut Rng::new(seed)).expect("writable").expect("a snapshot");
            let name = damage.path.strip_prefix(dir.path()).expect("inside").to_string_lossy().into_owned();
            assert!(["manifest-10.json", "data/new"].contains(&name.as_str()), "{name}");
            assert_ne!(fs::read(&damage.path).unwrap_or_default(), damage.before);
            damage.repair().expect("writable");
            assert_eq!(fs::read(&damage.path).expect("readable"), damage.before);
        }
    }

    #[test]
    fn only_hidden_files_of_the_output_belong_to_a_snapshot() {
        let (dir, out) = (snapshots(), tempfile::tempdir().expect("a temporary directory"));
        let [staged, visible] = [".part-0.staged", "part-0-1.jsonl"].map(|name| out.path().join(name));
        [&staged, &visible].iter().for_each(|path| fs::write(path, "{}").expect("a file"));
        let manifest = dir.path().join("manifest-11.json");
        fs::write(&manifest, serde_json::json!([staged, visible, "data/new"]).to_string())
            .expect("a manifest");
        let named = data_files(dir.path(), &[out.path()], &manifest).expect("readable");
        assert_eq!(named, BTreeSet::from([staged, dir.path().join("data/new")]));
    }

    #[test]
    fn without_a_snapshot_nothing_is_damaged() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(Damage::newest(dir.path(), &[], &mut Rng::new(1)).expect("readable").is_none());
    }
}
