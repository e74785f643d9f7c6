//! Copies of stored files on the local disk.
//!
//! A worker that is started again on the same host finds the files here that its predecessor has stored or fetched. They are
//! hard links to the files of the running state store where that is possible, and so take space only after the state store
//! has replaced the file. A copy is compared with the object in the store before it is used ([`super::ObjectStore`]), so it
//! need not be durable; who runs the workers says which are still needed, and the others are deleted.
//!
//! Several processes on a host may use the same directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_protocol::{ErrorContext, Result};

/// The folders of a checkpoint store whose files are kept.
const FOLDERS: [&str; 2] = ["files", "staged"];
/// The beginning of the names of files that are being written.
const PART: &str = ".part-";

static NEXT_PART: AtomicU64 = AtomicU64::new(0);

/// A directory for copies of stored files.
#[derive(Clone, Debug)]
pub struct Copies {
    directory: PathBuf,
}

impl Copies {
    /// Opens the directory, which is created if it is missing.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(directory: &Path) -> Result<Self> {
        for folder in FOLDERS {
            let path = directory.join(folder);
            fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Where the copy of a file is or would be; None for objects of which no copies are kept.
    pub(crate) fn place(&self, name: &str) -> Option<PathBuf> {
        let (folder, own) = name.split_once('/')?;
        (FOLDERS.contains(&folder) && !own.contains('/')).then(|| self.directory.join(name))
    }

    /// The copy of a file, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        self.place(name).filter(|path| path.is_file())
    }

    /// A name of its own beside the place of a copy, for a file that is being written.
    pub(crate) fn part(place: &Path) -> PathBuf {
        let number = NEXT_PART.fetch_add(1, Ordering::Relaxed);
        place.with_file_name(format!("{PART}{}-{number}", std::process::id()))
    }

    /// Keeps a file that was just stored.
    pub(crate) fn keep(&self, from: &Path, name: &str, immutable: bool) -> io::Result<()> {
        let Some(place) = self.place(name) else { return Ok(()) };
        let part = Self::part(&place);
        let made = if immutable && fs::hard_link(from, &part).is_ok() {
            Ok(())
        } else {
            fs::copy(from, &part).map(drop)
        };
        made.and_then(|()| fs::rename(&part, place)).inspect_err(|_| drop(fs::remove_file(&part)))
    }

    /// Deletes the copies that are not needed, and what processes have left that died while they made some. What cannot be deleted stays, and costs space.
    pub(crate) fn keep_only(&self, is_needed: &dyn Fn(&str) -> bool) {
        for folder in FOLDERS {
            let Ok(entries) = fs::read_dir(self.directory.join(folder)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_needed = match name.strip_prefix(PART) {
                    Some(part) => is_being_written(part),
                    None => is_needed(&format!("{folder}/{name}")),
                };
                if !is_needed {
                    drop(fs::remove_file(entry.path()));
                }
            }
        }
    }
}

/// Whether the process lives that a part is named after.
fn is_being_written(part: &str) -> bool {
    let pid = part.split('-').next().unwrap_or_default();
    Path::new("/proc").join(pid).exists()
}
