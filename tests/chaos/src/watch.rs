//! A reader that looks all the time: what is visible once stays visible and never changes.

use crate::failure::{Failure, Result};
use crate::visible;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// What a visible file held when it was first seen.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    length: u64,
    hash: u64,
}

/// Remembers every file of some directories from the first time it was seen.
pub struct Watch {
    dirs: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, Print>,
}

impl Watch {
    /// Begins with nothing seen.
    pub fn new(dirs: &[&Path]) -> Watch {
        Watch { dirs: dirs.iter().map(|d| d.to_path_buf()).collect(), seen: BTreeMap::new() }
    }

    /// How many files have been seen.
    pub fn files(&self) -> usize {
        self.seen.len()
    }

    /// A quick look, while the job runs: reads what is new, whole. Returns how many files are new.
    pub fn glance(&mut self) -> Result<usize> {
        let before = self.seen.len();
        for dir in self.dirs.clone() {
            for name in visible::names(&dir)? {
                let path = dir.join(&name);
                if let Entry::Vacant(new) = self.seen.entry(path) {
                    new.insert(print(&visible::file(&dir, name)?.bytes));
                }
            }
        }
        Ok(self.seen.len() - before)
    }

    /// A thorough look, while the job is down: all that was seen must still be there, unchanged.
    pub fn inspect(&mut self) -> Result<()> {
        self.glance()?;
        for (path, first) in &self.seen {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let now = std::fs::read(path).map_err(|e| vanished(&name, &e))?;
            if print(&now) != *first {
                return Err(Failure::new(format!("the visible file {name} changed after it was published")));
            }
        }
        Ok(())
    }

    /// Forgets everything: after a fall back to an older snapshot, newer files may be replaced.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

fn vanished(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("the visible file {name} vanished after it was published: {error}"))
}

fn print(bytes: &[u8]) -> Print {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Print { length: bytes.len() as u64, hash: hasher.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn watched() -> (tempfile::TempDir, Watch, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("part-0-1.jsonl");
        fs::write(&path, b"{}\n").expect("a file");
        let mut watch = Watch::new(&[dir.path()]);
        assert_eq!(watch.glance().expect("readable"), 1);
        (dir, watch, path)
    }

    #[test]
    fn an_unchanged_file_is_fine() {
        let (_dir, mut watch, _path) = watched();
        watch.inspect().expect("nothing changed");
    }

    #[test]
    fn a_changed_file_is_found() {
        let (_dir, mut watch, path) = watched();
        fs::write(path, b"[]\n").expect("a file");
        assert!(watch.inspect().expect_err("a change").to_string().contains("changed"));
    }

    #[test]
    fn a_vanished_file_is_found() {
        let (_dir, mut watch, path) = watched();
        fs::remove_file(path).expect("deleted");
        assert!(watch.inspect().expect_err("a loss").to_string().contains("vanished"));
    }
}
