//! The data directory of a taskmanager.
//!
//! ```text
//! LOCK                                   held while the taskmanager runs; contains its process number
//! id                                     who the taskmanager is, for ever
//! executables/<sha256>                   executables of jobs
//! copies/<job>/                          copies of files that the job has in a bucket, see `copies.rs`
//! jobs/<job>/<attempt>-<first slot>/     the working directory of a process; removed when it has ended
//! logs/<job>/<attempt>-<first slot>.log  the output of a process, see `log_file.rs`
//! ```
//!
//! Only the owner can access it: the output of jobs may be confidential.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tidegate_protocol::{Error, ErrorContext, Result, TaskManagerId};

/// A data directory that this taskmanager has for itself.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    pub(crate) id: TaskManagerId,
    pub(crate) executables: PathBuf,
    pub(crate) copies: PathBuf,
    pub(crate) jobs: PathBuf,
    pub(crate) logs: PathBuf,
    /// Closing it releases the lock.
    _lock: File,
}

impl DataDirectory {
    /// Takes the directory, and removes what processes of an earlier run have left.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        create(path).context(|| format!("cannot create the data directory {shown}"))?;
        // Processes are started elsewhere.
        let path = &path.canonicalize().context(|| format!("the data directory {shown}"))?;
        let lock = lock(path)?;
        let id = id(path).context(|| format!("the data directory {shown}"))?;
        let directories = ["executables", "jobs", "logs", "copies"].map(|name| path.join(name));
        remove(&directories[1]).context(|| format!("remove what jobs have left in {shown}"))?;
        directories.iter().try_for_each(|it| create(it)).context(|| format!("the data directory {shown}"))?;
        let [executables, jobs, logs, copies] = directories;
        Ok(Self { id, executables, copies, jobs, logs, _lock: lock })
    }
}

/// Creates a directory that only its owner can access, with those above it.
pub(crate) fn create(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a directory with all that it contains, if it is there.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("LOCK");
    let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = options.context(|| format!("open {}", path.display()))?;
    // SAFETY: a system call without pointers, on a descriptor that is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return Err(Error::from(error).context(format!("lock {}", path.display())));
        }
        let mut pid = String::new();
        let _ = Read::take(&file, 20).read_to_string(&mut pid);
        return Err(Error::environment(format!(
            "another taskmanager (process {}) uses the data directory {}: every taskmanager has its own",
            pid.trim(),
            directory.display()
        )));
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).context(|| format!("write {}", path.display()))?;
    Ok(file)
}

/// The identity that the directory contains; a new one if it is a new directory.
fn id(directory: &Path) -> Result<TaskManagerId> {
    let path = directory.join("id");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let digits = text.trim().strip_prefix("tm-").unwrap_or_default();
            if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::environment("its file 'id' does not contain the id of a taskmanager"));
            }
            Ok(TaskManagerId(text.trim().to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // What is in 'jobs' is removed: it must be ours.
            if directory.join("jobs").exists() {
                return Err(Error::environment(
                    "it has a directory 'jobs', but no file 'id', so it is not that of a taskmanager; choose another one",
                ));
            }
            let number = getrandom::u32().map_err(|error| Error::environment(error.to_string()))?;
            let id = format!("tm-{number:08x}");
            let temporary = directory.join("id.new");
            let mut file = File::create(&temporary)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()?;
            Ok(TaskManagerId(id))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_keeps_its_id_and_loses_what_jobs_have_left() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/data");
        let first = DataDirectory::open(&path).unwrap();
        assert!(first.id.0.len() == 11 && first.id.0.starts_with("tm-"), "{}", first.id);
        for directory in [&path, &first.jobs, &first.logs, &first.executables] {
            assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
        }
        let error = DataDirectory::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("another taskmanager (process {}) uses", std::process::id())),
            "{error}"
        );
        fs::create_dir(first.jobs.join("x")).unwrap();
        fs::write(first.logs.join("y"), "").unwrap();
        let id = first.id.clone();
        drop(first);
        let second = DataDirectory::open(&path).unwrap();
        assert_eq!(second.id, id);
        assert!(!second.jobs.join("x").exists() && second.logs.join("y").exists());
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("jobs/mine")).unwrap();
        let error = DataDirectory::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is not that of a taskmanager"), "{error}");
        assert!(directory.path().join("jobs/mine").exists());
        fs::write(directory.path().join("id"), "what").unwrap();
        assert!(DataDirectory::open(directory.path()).unwrap_err().to_string().contains("its file 'id'"));
    }
}
