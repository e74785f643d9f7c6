//! The checkpoint store of a cluster: a directory that all hosts see, or a place in a bucket.
//!
//! ```text
//! tidegate-store         says that this is a checkpoint store
//! executables/<sha256>   what jobs are started from
//! executables/.*.part    uploads that have not come to their end, each with the name of its jobmanager
//! jobs/<job>/            the checkpoint store of a job; its layout is that of `tidegate-snapshots`
//! savepoints/            savepoints for which no place was named
//! ```
//!
//! What a file system cannot tell from an empty directory, one that is not mounted, the first object can: it is looked for
//! before anything is read or written. A bucket that is away answers with an error, so there it is looked for at the start
//! only; then it also shows whether the store does a conditional write as it should.
//!
//! What is left of uploads when a jobmanager dies is removed when it is started again. The ledger is locked, so no other
//! process has the data directory; but another jobmanager, with a ledger of its own, may have the same store. Its uploads are
//! told from those of this one by a name that is in the data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_object_store::{S3Settings, S3Uri, Stores};
use tidegate_protocol::{Epoch, Error, ErrorContext, JobId, Result};
use tidegate_snapshots::{CheckpointStore, LocalStore, Snapshots};

/// The object that says that this is a checkpoint store.
const MARKER: &str = "tidegate-store";
/// Its content.
const MARK: &[u8] = b"1\n";
/// The file in the data directory with the name of this jobmanager among all that have the store.
const OWNER: &str = "uploads-id";
/// The folders of the store.
const FOLDERS: [&str; 3] = ["executables", "jobs", "savepoints"];

/// The checkpoint store of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterStore {
    root: Root,
    stores: Stores,
    /// A directory in which executables are received: of this host, if the store is a bucket.
    uploads: PathBuf,
    /// What the names of files in it begin with.
    owner: String,
}

#[derive(Clone, Debug)]
enum Root {
    /// An absolute path.
    Directory(PathBuf),
    Bucket(S3Uri),
}

impl ClusterStore {
    /// Opens the store with this name, and makes what belongs to it. A store that jobs have is not made anew. `data` is the
    /// directory of the ledger, which this process has locked.
    pub(crate) fn open(name: &str, s3: S3Settings, data: &Path, has_jobs: bool) -> Result<Self> {
        let (stores, owner) = (Stores::new(s3), owner(data)?);
        let (root, uploads) = if S3Uri::is_meant_by(name) {
            let uri: S3Uri = name.parse()?;
            prepare_bucket(&stores.bucket(&uri)?, has_jobs)?;
            (Root::Bucket(uri), data.join("uploads"))
        } else {
            let root = prepare_directory(Path::new(name), has_jobs)?;
            let uploads = root.join("executables");
            (Root::Directory(root), uploads)
        };
        let this = Self { root, stores, uploads, owner };
        this.prepare_uploads().context(|| format!("prepare {} for uploads", this.uploads.display()))?;
        Ok(this)
    }

    /// Makes the directory for uploads, and removes what is left of those of an earlier run.
    fn prepare_uploads(&self) -> Result<()> {
        std::fs::create_dir_all(&self.uploads)?;
        for entry in std::fs::read_dir(&self.uploads)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| self.is_left(name)) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether a file in the directory for uploads is of this jobmanager. Those for a bucket are in its data directory.
    fn is_left(&self, name: &str) -> bool {
        let own = name.strip_prefix('.').and_then(|name| name.strip_prefix(&*self.owner));
        let is_own = own.is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".part"));
        is_own || matches!(self.root, Root::Bucket(_))
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

    /// Makes the checkpoint store of a job. One that begins anew would take what is there for leftovers of its own, and remove
    /// it, so there must not be anything.
    pub(crate) fn create(&self, job: JobId, begins_anew: bool) -> Result<()> {
        self.check_is_there()?;
        let place = self.place_of(job);
        if let Root::Directory(_) = &self.root {
            LocalStore::open(Path::new(&place))?;
        }
        if begins_anew && Snapshots::new(self.of(job)?).find()?.last_epoch > Epoch::default() {
            return Err(Error::job(format!(
                "there are snapshots of a job with the id {job} in {place}, which this jobmanager does not know: a job that \
                 begins anew needs another id; to go on from them, name their place as the snapshot"
            )));
        }
        Ok(())
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

    /// Refuses a place for savepoints where none can be made: before a job is stopped for one.
    pub(crate) fn check_savepoint_place(&self, target: &str) -> Result<()> {
        if target.is_empty() {
            return Ok(());
        }
        if S3Uri::is_meant_by(target) {
            return target.parse::<S3Uri>().map(drop);
        }
        let path = Path::new(target);
        if path.exists() && !path.is_dir() {
            return Err(Error::job(format!(
                "{target} is not a directory; name one that savepoints are to be made in"
            )));
        }
        let made = std::fs::create_dir_all(path);
        made.context(|| format!("the directory {target}, in which a savepoint is to be made, cannot be made"))
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

    /// A path for an executable that is being received. Two clients may send the same one: the number is another one for each.
    pub(crate) fn upload(&self, id: &str, number: u64) -> PathBuf {
        self.uploads.join(format!(".{}-{id}-{number}.part", self.owner))
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

/// The name of this jobmanager among all that have the store: 32 hexadecimal digits.
fn owner(data: &Path) -> Result<String> {
    let path = data.join(OWNER);
    let is_name = |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(name) = std::fs::read_to_string(&path).ok().filter(is_name) {
        return Ok(name);
    }
    let name = tidegate_access::new_nonce();
    std::fs::write(&path, &name).context(|| format!("write {}", path.display()))?;
    Ok(name)
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
        store.create(job, true).unwrap();
        assert!(store.of(job).unwrap().list("files").unwrap().is_empty());

        assert!(!store.has_executable("aa").unwrap());
        for _ in 0..2 {
            let received = store.upload("aa", 1);
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
        store.create(JobId([1; 16]), true).unwrap();
        store.of(JobId([1; 16])).unwrap();
        std::fs::remove_file(root.join(MARKER)).unwrap();
        assert!(!store.is_there() && store.of(JobId([1; 16])).is_err());
    }

    #[test]
    fn what_is_left_of_the_uploads_of_this_jobmanager_is_removed_at_its_start() {
        let (place, server) = (tempfile::tempdir().unwrap(), S3Server::new());
        let [data, of_another] = ["data", "another"].map(|name| place.path().join(name));
        [&data, &of_another].into_iter().for_each(|path| std::fs::create_dir(path).unwrap());
        let directory = place.path().join("store").display().to_string();
        for name in [&directory, &format!("s3://{BUCKET}/cluster")] {
            let open =
                |data: &Path| ClusterStore::open(name, settings(&server, place.path()), data, false).unwrap();
            let (left, running) = (open(&data).upload("aa", 1), open(&of_another).upload("aa", 1));
            let executable = left.with_file_name("aa");
            for path in [&left, &running, &executable] {
                std::fs::write(path, "a part").unwrap();
            }
            open(&data);
            assert!(!left.exists() && running.exists(), "{name}");
            assert_eq!(executable.exists(), *name == directory, "{name}");
        }
    }
}
