//! The few things that are done to directories and files in more than one place.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

pub(super) use tidegate_connector_api::files::{failed, sync_directory};
use tidegate_protocol::{Error, Result};

/// The absolute path without links, as text that fits into a manifest.
pub(super) fn canonical(path: &Path) -> Result<String> {
    let canonical = fs::canonicalize(path).map_err(|e| failed("find", path, e))?;
    text(canonical, path)
}

fn text(canonical: PathBuf, path: &Path) -> Result<String> {
    let text = canonical.into_os_string().into_string();
    text.map_err(|_| Error::job(format!("the path {} is not UTF-8; use another directory", path.display())))
}

fn is_no_directory(path: &Path) -> Error {
    Error::job(format!(
        "{} is a file, and a directory is needed: remove the file, or name another directory",
        path.display()
    ))
}

/// Makes a directory with those above it, so that they are still there after a loss of power.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(path).map_err(|e| match fs::metadata(path) {
        Ok(there) if !there.is_dir() => is_no_directory(path),
        _ => failed("make the directory", path, e),
    })?;
    for made in missing {
        match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent)?,
            Some(_) => sync_directory(Path::new("."))?,
            None => {}
        }
    }
    Ok(())
}

/// The length of a file, or None if there is none.
pub(super) fn length(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path, error)),
    }
}

/// The CRC-32 of a file's content.
pub(super) fn crc32(path: &Path) -> Result<u32> {
    let failed = |error| failed("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(bytes) => hasher.update(&buffer[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

/// The names in a directory that are UTF-8, in order. All names of a file log are.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |error| failed("list the directory", directory, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The canonical form that a directory has or, if it is missing, will have once it is made.
pub(super) fn canonical_if_made(directory: &Path) -> Result<String> {
    let here = Path::new(".");
    let existing = directory.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(here);
    if !existing.is_dir() {
        return Err(is_no_directory(existing));
    }
    let missing = directory.strip_prefix(existing).unwrap_or(directory);
    let existing = if existing.as_os_str().is_empty() { here } else { existing };
    let mut path = PathBuf::from(canonical(existing)?);
    for component in missing.components() {
        match component {
            // What is missing will be made, and is no link.
            Component::ParentDir => drop(path.pop()),
            component => path.push(component),
        }
    }
    text(path, directory)
}

/// The canonical form of a directory that is made if it is missing.
pub(super) fn canonical_made(directory: &Path) -> Result<PathBuf> {
    make_directory(directory)?;
    canonical(directory).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_has_the_name_that_it_has_once_it_is_made() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("link")).unwrap();
        let directory = root.path().join("link/a/b");
        let before = canonical_if_made(&directory).unwrap();
        assert!(!directory.exists());
        assert_eq!(canonical_made(&directory).unwrap().to_str(), Some(before.as_str()));
        assert_eq!(canonical_if_made(&directory).unwrap(), before);
        let up = root.path().join("link/c/../../d");
        let before = canonical_if_made(&up).unwrap();
        assert_eq!(canonical_made(&up).unwrap().to_str(), Some(before.as_str()));
        let here = fs::canonicalize(".").unwrap();
        assert_eq!(canonical_if_made(Path::new("no/such")).unwrap(), here.join("no/such").to_str().unwrap());
    }

    #[test]
    fn a_path_that_cannot_become_a_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for path in ["file", "file/below"] {
            let error = canonical_if_made(&root.path().join(path)).unwrap_err().to_string();
            assert!(error.contains("file is a file, and a directory is needed"), "{error}");
        }
    }
}
