//! The checkpoint store of a cluster: a directory that all hosts see, or a place in a bucket.
//!
//! ```text
//! tidegate-store         says that this is a checkpoint store
//! executables/<sha256>   what jobs are started from
//! jobs/<job>/            the checkpoint store of a job; its layout is that of `tidegate-snapshots`
//! savepoints/            savepoints for which no place was named
//! ```
//!
//! What a file system cannot tell from an empty directory, one that is not mounted, the first object can: it is looked for
//! before anything is read or written. A bucket that is away answers with an error, so there it is looked for at the start
//! only; then it also shows whether the store does a conditional write as it should.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_object_store::{S3Settings, S3Uri, Stores};
use tidegate_protocol::{Epoch, Error, ErrorContext, JobId, Result};
use tidegate_snapshots::{CheckpointStore, LocalStore};

/// The object that says that this is a checkpoint store.
const MARKER: &str = "tidegate-store";
/// Its content.
const MARK: &[u8] = b"1\n";
/// The folders of the store.
const FOLDERS: [&str; 3] = ["executables", "jobs", "savepoints"];

/// The checkpoint store of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterStore {
    root: Root,
    stores: Stores,
    /// A directory of this host in which executables are received.
    uploads: PathBuf,
}

#[derive(Clone, Debug)]
enum Root {
    /// An absolute path.
    Directory(PathBuf),
    Bucket(S3Uri),
}

impl ClusterStore {
    /// Opens the store with this name, and makes what belongs to it. A store that jobs have is not made anew. `data` is a
    /// directory of this host.
    pub(crate) fn open(name: &str, s3: S3Settings, data: &Path, has_jobs: bool) -> Result<Self> {
        let stores = Stores::new(s3);
        if !S3Uri::is_meant_by(name) {
            let root = prepare_directory(Path::new(name), has_jobs)?;
            let uploads = root.join("executables");
            return Ok(Self { root: Root::Directory(root), stores, uploads });
        }
        let uri: S3Uri = name.parse()?;
        prepare_bucket(&stores.bucket(&uri)?, has_jobs)?;
        let uploads = data.join("uploads");
        if uploads.exists() {
            std::fs::remove_dir_all(&uploads).context(|| format!("remove {}", uploads.display()))?;
        }
        std::fs::create_dir_all(&uploads).context(|| format!("create {}", uploads.display()))?;
        Ok(Self { root: Root::Bucket(uri), stores, uploads })
    }

    /// A place in the store, as all hosts name it.
    fn place(&self, name: &str) -> String {
        match &self.root {
            Root::Directory(root) => root.join(name).display().to_string(),
            Root::Bucket(uri) => uri.join(name).to_string(),
        }
    }

    /// Its name, as all hosts see it.
    pub(crate) fn name(&self) -> String {
        match &self.root {
            Root::Directory(root) => root.display().to_string(),
            Root::Bucket(uri) => uri.to_string(),
        }
    }

    /// Where the checkpoint store of a job is.
    pub(crate) fn place_of(&self, job: JobId) -> String {
        self.place(&format!("jobs/{job}"))
    }

    /// False if the store is certainly not there.
    pub(crate) fn is_there(&self) -> bool {
        match &self.root {
            Root::Directory(root) => is_marked(root),
            Root::Bucket(_) => true,
        }
    }

    /// How long an attempt may take until it runs: state in a bucket has to be fetched.
    pub(crate) fn start_timeout_ms(&self) -> u64 {
        match &self.root {
            Root::Directory(_) => 60_000,
            Root::Bucket(_) => 600_000,
        }
    }

    fn check_is_there(&self) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        Err(Error::environment(format!(
            "the checkpoint store {} is not there; is its file system mounted?",
            self.name()
        )))
    }

    /// Makes the checkpoint store of a new job.
    pub(crate) fn create(&self, job: JobId) -> Result<()> {
        self.check_is_there()?;
        match &self.root {
            Root::Directory(_) => LocalStore::open(Path::new(&self.place_of(job))).map(drop),
            Root::Bucket(_) => Ok(()),
        }
    }

    /// The checkpoint store of a job.
    pub(crate) fn of(&self, job: JobId) -> Result<Arc<dyn CheckpointStore>> {
        self.check_is_there()?;
        self.stores.of_job(&self.place_of(job), None)
    }

    /// The savepoint, or the checkpoint store of another job, that a user names.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<dyn CheckpointStore>> {
        self.stores.named(name)
    }

    /// Copies the snapshot of an epoch to a new place below `target`, a directory or a place in a bucket; an empty text is
    /// the folder for savepoints. Returns the new place.
    pub(crate) fn write_savepoint(&self, job: JobId, epoch: Epoch, target: &str) -> Result<String> {
        let target = if target.is_empty() { self.place("savepoints") } else { target.to_owned() };
        let short = &job.to_string()[..8];
        let names = (1..).map(|n| match n {
            1 => format!("savepoint-{short}-{epoch}"),
            n => format!("savepoint-{short}-{epoch}-{n}"),
        });
        let from = self.of(job)?;
        if !S3Uri::is_meant_by(&target) {
            let target = PathBuf::from(target);
            std::fs::create_dir_all(&target).context(|| format!("make {}", target.display()))?;
            let free = names.map(|name| target.join(name)).find(|path| !path.exists());
            let path = free.ok_or_else(|| Error::internal("no name is left for a savepoint"))?;
            tidegate_snapshots::write_savepoint(&from, epoch, &path)?;
            return Ok(path.display().to_string());
        }
        let target: S3Uri = target.parse()?;
        for place in names.map(|name| target.join(&name)) {
            let to: Arc<dyn CheckpointStore> = Arc::new(self.stores.bucket(&place)?);
            // A savepoint that was not completed has files and no manifest.
            if to.list("")?.is_empty() && to.list("files")?.is_empty() {
                tidegate_snapshots::copy_snapshot(&from, epoch, &to)?;
                return Ok(place.to_string());
            }
        }
        Err(Error::internal("no name is left for a savepoint"))
    }

    /// Where an executable is, as taskmanagers find it.
    pub(crate) fn executable(&self, id: &str) -> String {
        self.place(&format!("executables/{id}"))
    }

    /// A path for a file that is being received.
    pub(crate) fn upload(&self, name: &str) -> PathBuf {
        self.uploads.join(name)
    }

    /// Keeps a file that was received as the executable with this id.
    pub(crate) fn keep_executable(&self, received: &Path, id: &str) -> Result<()> {
        match &self.root {
            Root::Directory(_) => {
                let whole = self.executable(id);
                std::fs::rename(received, &whole).context(|| format!("write {whole}"))
            }
            Root::Bucket(uri) => {
                let (store, name) = (self.stores.bucket(uri)?, format!("executables/{id}"));
                let kept = if store.exists(&name)? { Ok(()) } else { store.put_file(received, &name, true) };
                drop(std::fs::remove_file(received));
                kept
            }
        }
    }

    /// True if there is an executable with this id.
    pub(crate) fn has_executable(&self, id: &str) -> Result<bool> {
        match &self.root {
            Root::Directory(_) => Ok(Path::new(&self.executable(id)).is_file()),
            Root::Bucket(uri) => self.stores.bucket(uri)?.exists(&format!("executables/{id}")),
        }
    }
}

/// Makes the folders of a store in a directory; returns its absolute path.
fn prepare_directory(root: &Path, has_jobs: bool) -> Result<PathBuf> {
    if has_jobs && !is_marked(root) {
        return Err(Error::environment(format!(
            "the checkpoint store {} is not there, and the ledger has jobs whose snapshots are in it; is its file system mounted?",
            root.display()
        )));
    }
    for folder in FOLDERS {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).context(|| format!("make the checkpoint store {}", path.display()))?;
    }
    let marker = root.join(MARKER);
    std::fs::write(&marker, MARK).context(|| format!("write {}", marker.display()))?;
    root.canonicalize().context(|| format!("the checkpoint store {}", root.display()))
}

fn is_marked(root: &Path) -> bool {
    root.join(MARKER).is_file()
}

/// Marks a store in a bucket, and refuses one that would replace a manifest.
fn prepare_bucket(store: &dyn CheckpointStore, has_jobs: bool) -> Result<()> {
    let uri = store.uri();
    if has_jobs && store.read(MARKER)?.is_none() {
        return Err(Error::environment(format!(
            "there is no checkpoint store at {uri}, and the ledger has jobs whose snapshots are in it; is it the right bucket?"
        )));
    }
    store.replace(MARKER, MARK)?;
    let replaced = store.create(MARKER, b"replaced\n");
    if replaced.is_ok() || store.read(MARKER)?.as_deref() != Some(MARK) {
        return Err(Error::environment(format!(
            "the object store of {uri} does not refuse to replace an object (a PUT with If-None-Match: *), so snapshots \
             would not be safe in it"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tidegate_s3_server::{BUCKET, KEY_ID, S3Server, SECRET_KEY};

    use super::*;

    fn settings(server: &S3Server, place: &Path) -> S3Settings {
        let path = place.join("credentials");
        let keys = format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n");
        std::fs::write(&path, keys).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        S3Settings {
            endpoint: Some(server.endpoint()),
            credentials_file: Some(path),
            ..S3Settings::default()
        }
    }

    #[test]
    fn a_store_in_a_bucket_keeps_executables_and_is_not_made_anew() {
        let (server, place) = (S3Server::new(), tempfile::tempdir().unwrap());
        let (name, data) = (format!("s3://{BUCKET}/cluster"), place.path());
        let open = |has_jobs| ClusterStore::open(&name, settings(&server, data), data, has_jobs);
        let error = open(true).unwrap_err().to_string();
        assert!(error.contains(&format!("there is no checkpoint store at {name}")), "{error}");
        let store = open(false).unwrap();
        open(true).unwrap();
        let job = JobId([0xab; 16]);
        assert_eq!((store.name(), store.place_of(job)), (name.clone(), format!("{name}/jobs/{job}")));
        store.create(job).unwrap();
        assert!(store.of(job).unwrap().list("files").unwrap().is_empty());

        assert!(!store.has_executable("aa").unwrap());
        for _ in 0..2 {
            let received = store.upload("part");
            std::fs::write(&received, "program").unwrap();
            store.keep_executable(&received, "aa").unwrap();
            assert!(store.has_executable("aa").unwrap() && !received.exists());
        }
        assert_eq!(store.executable("aa"), format!("{name}/executables/aa"));
        assert_eq!(std::fs::read(server.bucket().join("cluster/executables/aa")).unwrap(), b"program");
    }

    #[test]
    fn a_directory_that_jobs_have_is_not_made_anew() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        let name = root.to_str().unwrap();
        let open = |has_jobs| ClusterStore::open(name, S3Settings::default(), place.path(), has_jobs);
        assert!(open(true).unwrap_err().to_string().contains("is its file system mounted?"));
        let store = open(false).unwrap();
        store.create(JobId([1; 16])).unwrap();
        store.of(JobId([1; 16])).unwrap();
        std::fs::remove_file(root.join(MARKER)).unwrap();
        assert!(!store.is_there() && store.of(JobId([1; 16])).is_err());
    }
}
