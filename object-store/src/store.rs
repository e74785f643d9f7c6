//! A place in a bucket as a checkpoint store.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::PutMode;
use tidegate_failpoint::point;
use tidegate_protocol::{Error, ErrorContext, Result};
use tidegate_snapshots::{CheckpointStore, Checksum, Upload};

use crate::background::{wait, with_disk};
use crate::bucket::{Bucket, PART_BYTES};
use crate::{Copies, S3Uri};

/// Files that are stored, fetched or checked at the same time.
const FILES_AT_ONCE: usize = 8;

/// A place in a bucket, as a checkpoint store.
#[derive(Clone, Debug)]
pub struct ObjectStore(Arc<Place>);

/// What requests refer to.
#[derive(Clone, Debug)]
struct Place {
    bucket: Arc<Bucket>,
    uri: S3Uri,
    copies: Option<Copies>,
}

impl ObjectStore {
    pub(crate) fn new(bucket: Arc<Bucket>, uri: S3Uri) -> Self {
        Self(Arc::new(Place { bucket, uri, copies: None }))
    }

    /// The same store, which keeps copies of files on the local disk.
    #[must_use]
    pub fn with_copies(self, copies: Copies) -> Self {
        Self(Arc::new(Place { copies: Some(copies), ..(*self.0).clone() }))
    }

    /// Runs a request and waits for its result.
    fn run<F, T>(&self, request: impl FnOnce(Arc<Place>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        wait(request(self.0.clone()))
    }

    fn write(&self, name: &str, bytes: &[u8], mode: PutMode) -> Result<()> {
        let (name, bytes) = (name.to_owned(), Bytes::copy_from_slice(bytes));
        self.run(|place| async move { place.bucket.write(&place.uri.key(&name), bytes, mode).await })
    }
}

impl Place {
    async fn put(&self, file: Upload) -> Result<()> {
        self.bucket.upload(&file.from, &self.uri.key(&file.name)).await?;
        if let Some(copies) = self.copies.clone() {
            // Without a copy, the next start on this host fetches the file.
            drop(with_disk(move || Ok(copies.keep(&file.from, &file.name, file.immutable)?)).await);
        }
        Ok(())
    }

    /// The checksum of what [`Place::get`] gives: that of the copy, which is fetched again if it is not the object in the
    /// store. Without copies it is the one that was stored with the object.
    async fn checksum(&self, name: String) -> Result<Checksum> {
        let key = self.uri.key(&name);
        let Some(head) = self.bucket.head(&key).await? else {
            return Ok(Err(format!("{}/{name} is not there", self.uri)));
        };
        let Some(copy) = self.copies.as_ref().and_then(|copies| copies.place(&name)) else {
            let crc32 = match head.crc32 {
                Some(crc32) => crc32,
                None => self.bucket.crc32(&key, head.bytes).await?,
            };
            return Ok(Ok((head.bytes, crc32)));
        };
        let path = copy.clone();
        if let Ok(found) = with_disk(move || tidegate_snapshots::checksum(&path)).await
            && found.0 == head.bytes
            && Some(found.1) == head.crc32
        {
            return Ok(Ok(found));
        }
        Ok(Ok((head.bytes, self.fetch(&key, head.bytes, copy).await?)))
    }

    /// Puts an object into a file, which is there as a whole or not at all; returns its CRC-32.
    async fn fetch(&self, key: &str, bytes: u64, to: PathBuf) -> Result<u32> {
        let part = Copies::part(&to);
        let crc32 = self.bucket.download(key, bytes, part.clone()).await;
        let ended = with_disk(move || {
            if crc32.is_ok() {
                std::fs::rename(&part, &to).context(|| format!("write {}", to.display()))?;
            } else {
                drop(std::fs::remove_file(&part));
            }
            crc32
        });
        ended.await
    }

    async fn get(&self, name: &str, to: PathBuf, immutable: bool) -> Result<()> {
        if let Some(copy) = self.copies.as_ref().and_then(|copies| copies.find(name)) {
            return with_disk(move || {
                let is_linked = immutable && std::fs::hard_link(&copy, &to).is_ok();
                let copied = if is_linked { Ok(0) } else { std::fs::copy(&copy, &to) };
                copied.map(drop).context(|| format!("copy {} to {}", copy.display(), to.display()))
            })
            .await;
        }
        let (key, missing) = (self.uri.key(name), || format!("{}/{name} is not there", self.uri));
        let head = self.bucket.head(&key).await?.ok_or_else(|| Error::environment(missing()))?;
        let crc32 = self.fetch(&key, head.bytes, to).await?;
        if head.crc32.is_some_and(|expected| expected != crc32) {
            return Err(Error::environment(format!(
                "{}/{name} is damaged: its content has the CRC-32 {crc32:08x}, and not the one that was stored with it",
                self.uri
            )));
        }
        Ok(())
    }
}

impl CheckpointStore for ObjectStore {
    fn uri(&self) -> String {
        self.0.uri.to_string()
    }

    fn put_file(&self, from: &Path, name: &str, immutable: bool) -> Result<()> {
        self.put_files(&[Upload { from: from.to_owned(), name: name.to_owned(), immutable }])
    }

    fn put_files(&self, files: &[Upload]) -> Result<()> {
        let files = files.to_vec();
        self.run(|place| async move {
            let put = files.into_iter().map(|file| place.put(file));
            stream::iter(put).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await
        })
    }

    fn copy_file(&self, from: &dyn CheckpointStore, name: &str, immutable: bool) -> Result<()> {
        if let Some(path) = from.local_path(name) {
            return self.put_file(&path, name, immutable);
        }
        let there: S3Uri = from.uri().parse()?;
        if there.bucket() == self.0.bucket.name() {
            let name = name.to_owned();
            return self.run(|place| async move {
                place.bucket.copy(&there.key(&name), &place.uri.key(&name)).await
            });
        }
        let passing = Copies::part(&std::env::temp_dir().join("tidegate"));
        let copied =
            from.get_file(name, &passing, true).and_then(|()| self.put_file(&passing, name, immutable));
        drop(std::fs::remove_file(&passing));
        copied
    }

    fn keep_copies(&self, is_needed: &dyn Fn(&str) -> bool) {
        if let Some(copies) = &self.0.copies {
            copies.keep_only(is_needed);
        }
    }

    fn get_file(&self, name: &str, to: &Path, immutable: bool) -> Result<()> {
        let (name, to) = (name.to_owned(), to.to_owned());
        self.run(|place| async move { place.get(&name, to, immutable).await })
    }

    fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        if let Some(copy) = self.0.copies.as_ref().and_then(|copies| copies.find(name)) {
            return Ok(Box::new(std::fs::File::open(&copy).context(|| format!("open {}", copy.display()))?));
        }
        let key = self.0.uri.key(name);
        let looked_for = key.clone();
        let head = self.run(|place| async move { place.bucket.head(&looked_for).await })?;
        let head = head.ok_or_else(|| Error::environment(format!("{}/{name} is not there", self.0.uri)))?;
        let bucket = self.0.bucket.clone();
        Ok(Box::new(Reader { bucket, key, position: 0, bytes: head.bytes, buffer: Bytes::new() }))
    }

    fn checksums(&self, names: &[&str]) -> Result<Vec<Checksum>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.run(|place| async move {
            let checked = names.into_iter().map(|name| place.checksum(name));
            stream::iter(checked).buffered(FILES_AT_ONCE).try_collect().await
        })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        let found = self.run(|place| async move { place.bucket.read(&place.uri.key(&name)).await })?;
        Ok(found.map(Vec::from))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.list_with_prefix(folder, "")
    }

    fn list_with_prefix(&self, folder: &str, prefix: &str) -> Result<Vec<String>> {
        let place = if folder.is_empty() { self.0.uri.clone() } else { self.0.uri.join(folder) };
        let (before, from) = (place.key("").len(), place.key(prefix));
        let rest = self.run(|place| async move { place.bucket.list(&from).await })?;
        let start = place.key(prefix)[before..].to_owned();
        Ok(rest.into_iter().map(|rest| format!("{start}{rest}")).collect())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        point("completion.before_rename");
        self.write(name, bytes, PutMode::Create)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, PutMode::Overwrite)
    }

    fn note(&self, name: &str, bytes: &[u8]) -> Result<()> {
        point("published.before_write");
        self.write(name, bytes, PutMode::Overwrite)
    }

    /// Copies and deletes: after a crash in between both objects are there.
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.0.uri.key(from), self.0.uri.key(to));
        self.run(|place| async move {
            place.bucket.copy(&from, &to).await?;
            place.bucket.delete(vec![from]).await
        })
    }

    fn exists(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        let head = self.run(|place| async move { place.bucket.head(&place.uri.key(&name)).await })?;
        Ok(head.is_some())
    }

    fn delete(&self, names: &[&str]) -> Result<()> {
        let keys: Vec<String> = names.iter().map(|name| self.0.uri.key(name)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        self.run(|place| async move { place.bucket.delete(keys).await })
    }

    /// What a request has changed is durable when it is answered.
    fn sync(&self, _folder: &str) -> Result<()> {
        Ok(())
    }
}

/// Reads an object part by part.
struct Reader {
    bucket: Arc<Bucket>,
    key: String,
    /// Where the part after the one in the buffer begins.
    position: u64,
    bytes: u64,
    buffer: Bytes,
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && self.position < self.bytes {
            let (bucket, key, position) = (self.bucket.clone(), self.key.clone(), self.position);
            let count = PART_BYTES.min(self.bytes - position);
            let part = wait(async move { bucket.range(&key, position, count).await });
            self.buffer = part.map_err(|error| io::Error::other(error.to_string()))?;
            self.position += count;
        }
        let count = to.len().min(self.buffer.len());
        self.buffer.split_to(count).copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}
