//! Requests to one bucket.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientConfigKey, GetOptions, MultipartUpload, ObjectStore,
    ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tidegate_protocol::{Error, ErrorContext, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::S3Settings;
use crate::background::with_disk;
use crate::credentials::FileCredentials;

/// Files are sent and fetched in parts of so many bytes.
pub(crate) const PART_BYTES: u64 = 8 << 20;
/// An upload has at most so many parts.
const PARTS_MAX: u64 = 10_000;
/// Parts that are under way at the same time, all files of a bucket together: what they take of the process' memory.
const PARTS_AT_ONCE: usize = 4;
/// The attribute of an object that has the CRC-32 of its content, in hexadecimal digits.
const CRC32: &str = "crc32";
/// How long a connection may take to be made.
const CONNECT: &str = "5 seconds";
/// How long one request may take; it has at most a part in it.
const REQUEST: &str = "30 seconds";
/// The longest reason that is reported; a store may answer with a page of XML.
const REASON_CHARS: usize = 300;

/// A connection to a bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    s3: AmazonS3,
    parts: Arc<Semaphore>,
}

/// What is known of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) bytes: u64,
    /// None for an object that another program has made.
    pub(crate) crc32: Option<u32>,
}

impl Bucket {
    pub(crate) fn open(settings: &S3Settings, name: &str) -> Result<Self> {
        let opening = || format!("cannot use the bucket {name}");
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        if let Some(style) = settings.virtual_hosted_style {
            builder = builder.with_virtual_hosted_style_request(style);
        }
        let has_keys = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
        if let Some(path) = settings.credentials_file.as_ref().filter(|_| !has_keys) {
            let credentials = FileCredentials::open(path).context(opening)?;
            builder = builder.with_credentials(Arc::new(credentials));
        }
        let endpoint = endpoint(&builder).context(opening)?;
        let builder = builder
            .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT)
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
            .with_retry(retries(settings));
        // The provider is that of the whole process: one of the job's own may be there already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let s3 = builder.build().map_err(|error| Error::environment(reason(&error)).context(opening()))?;
        Ok(Self { name: name.to_owned(), s3, parts: Arc::new(Semaphore::new(PARTS_AT_ONCE)) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An error with the name of the object, and what to do.
    fn failed(&self, doing: &str, key: &str, error: &object_store::Error) -> Error {
        let hint = match error {
            object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. } => {
                "; the credentials of this process do not allow it"
            }
            _ => "",
        };
        Error::environment(format!("cannot {doing} s3://{}/{key}: {}{hint}", self.name, reason(error)))
    }

    /// The key as the library takes it.
    fn key(&self, key: &str) -> Result<Key> {
        Key::parse(key).map_err(|error| Error::internal(format!("s3://{}/{key}: {error}", self.name)))
    }

    /// The content of a small object; None if it is not there.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let found = match self.s3.get(&self.key(key)?).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_no_such_key(&error) => Ok(None),
            Err(error) => Err(self.failed("read", key, &error)),
        }
    }

    /// What is known of an object; None if it is not there.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<Head>> {
        let key_of_store = self.key(key)?;
        let found = match self.s3.get_opts(&key_of_store, GetOptions::new().with_head(true)).await {
            // The answer to this request has no body that would say what is not there.
            Err(object_store::Error::NotFound { .. }) => self.s3.get(&key_of_store).await,
            found => found,
        };
        match found {
            Ok(found) => {
                let crc32 = found.attributes.get(&Attribute::Metadata(CRC32.into()));
                let crc32 = crc32.and_then(|text| u32::from_str_radix(text, 16).ok());
                Ok(Some(Head { bytes: found.meta.size, crc32 }))
            }
            Err(error) if is_no_such_key(&error) => Ok(None),
            Err(error) => Err(self.failed("look for", key, &error)),
        }
    }

    /// Makes a small object. With [`PutMode::Create`] it must not be there, unless with the same content: a request whose
    /// answer was lost may have made it.
    pub(crate) async fn write(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<()> {
        let is_new = mode == PutMode::Create;
        let options = PutOptions { mode, ..PutOptions::from(attributes(crc32fast::hash(&bytes))) };
        let written = self.s3.put_opts(&self.key(key)?, bytes.clone().into(), options).await;
        let Err(error) = written else { return Ok(()) };
        if is_new && let Ok(Some(there)) = self.read(key).await {
            if there == bytes {
                return Ok(());
            }
            return Err(Error::environment(format!(
                "cannot make s3://{}/{key}: it exists already",
                self.name
            )));
        }
        Err(self.failed("write", key, &error))
    }

    /// Stores a file.
    pub(crate) async fn upload(&self, from: &Path, key: &str) -> Result<()> {
        let doing = || format!("store {} as s3://{}/{key}", from.display(), self.name);
        let path = from.to_owned();
        let summed = with_disk(move || {
            let file = File::open(&path)?;
            let summed = tidegate_snapshots::checksum(&path)?;
            Ok((Arc::new(file), summed))
        });
        let (file, (bytes, crc32)) = summed.await.context(doing)?;
        if bytes <= PART_BYTES {
            let _permit = self.parts.acquire().await;
            let content = read_part(&file, 0, bytes).await.context(doing)?;
            let options = PutOptions::from(attributes(crc32));
            let stored = self.s3.put_opts(&self.key(key)?, content, options).await;
            return stored.map(drop).map_err(|error| self.failed("write", key, &error));
        }
        let options = attributes(crc32).into();
        let begun = self.s3.put_multipart_opts(&self.key(key)?, options).await;
        let mut upload = begun.map_err(|error| self.failed("write", key, &error))?;
        let sent = self.send_parts(&mut *upload, &file, bytes).await.context(doing);
        let ended = match sent {
            Ok(()) => upload.complete().await.map(drop).map_err(|error| self.failed("write", key, &error)),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            // Parts that stay are removed by the bucket's rule for uploads that were not completed.
            drop(upload.abort().await);
        }
        ended
    }

    async fn send_parts(&self, upload: &mut dyn MultipartUpload, file: &Arc<File>, bytes: u64) -> Result<()> {
        let part = PART_BYTES.max(bytes.div_ceil(PARTS_MAX));
        let mut under_way = JoinSet::new();
        for offset in (0..bytes).step_by(part as usize) {
            let permit = self.parts.clone().acquire_owned().await;
            let content = read_part(file, offset, part.min(bytes - offset)).await?;
            let sent = upload.put_part(content);
            under_way.spawn(async move {
                let sent = sent.await;
                drop(permit);
                sent
            });
            while let Some(sent) = under_way.try_join_next() {
                check_part(sent)?;
            }
        }
        while let Some(sent) = under_way.join_next().await {
            check_part(sent)?;
        }
        Ok(())
    }

    /// Puts the content of an object into a file; returns its CRC-32.
    pub(crate) async fn download(&self, key: &str, bytes: u64, to: PathBuf) -> Result<u32> {
        let created = to.clone();
        let file = with_disk(move || Ok(Arc::new(create(&created)?)));
        let file = file.await.context(|| format!("write {}", to.display()))?;
        let mut crc = crc32fast::Hasher::new();
        for offset in (0..bytes).step_by(PART_BYTES as usize) {
            let _permit = self.parts.acquire().await;
            let content = self.range(key, offset, PART_BYTES.min(bytes - offset)).await?;
            crc.update(&content);
            let file = file.clone();
            let written = with_disk(move || Ok(file.write_all_at(&content, offset)?)).await;
            written.context(|| format!("write {}", to.display()))?;
        }
        Ok(crc.finalize())
    }

    /// The CRC-32 of the content of an object that has no attribute with it.
    pub(crate) async fn crc32(&self, key: &str, bytes: u64) -> Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        for offset in (0..bytes).step_by(PART_BYTES as usize) {
            let _permit = self.parts.acquire().await;
            crc.update(&self.range(key, offset, PART_BYTES.min(bytes - offset)).await?);
        }
        Ok(crc.finalize())
    }

    /// Some bytes of an object.
    pub(crate) async fn range(&self, key: &str, offset: u64, bytes: u64) -> Result<Bytes> {
        let found = self.s3.get_range(&self.key(key)?, offset..offset + bytes).await;
        let found = found.map_err(|error| self.failed("read", key, &error))?;
        if found.len() as u64 == bytes {
            return Ok(found);
        }
        Err(Error::environment(format!("s3://{}/{key} has changed while it was read", self.name)))
    }

    /// The rest of the keys that begin with a prefix, without those that have another '/'.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let (mut names, mut page_token) = (Vec::new(), None);
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page =
                self.s3.list_paginated(Some(prefix).filter(|prefix| !prefix.is_empty()), options).await;
            let page = page.map_err(|error| self.failed("list", prefix, &error))?;
            let keys = page.result.objects.iter().map(|object| object.location.as_ref());
            names.extend(keys.filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned));
            page_token = page.page_token;
            if page_token.is_none() {
                return Ok(names);
            }
        }
    }

    /// Deletes objects, with few requests.
    pub(crate) async fn delete(&self, keys: Vec<String>) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect::<Result<_>>()?;
        let mut deleted = self.s3.delete_stream(stream::iter(keys.into_iter().map(Ok)).boxed());
        while let Some(one) = deleted.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("delete objects of", "", &error)),
            }
        }
        Ok(())
    }

    /// Makes a copy of an object within the bucket, which the store does by itself; replaces what is there.
    pub(crate) async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let copied = self.s3.copy(&self.key(from)?, &self.key(to)?).await;
        copied.map_err(|error| self.failed("copy", from, &error))
    }
}

/// The URL of the store, if one is set: that for S3 alone outweighs that for all services. It may be from the environment, so
/// nobody has checked it yet.
fn endpoint(builder: &AmazonS3Builder) -> Result<Option<String>> {
    for (key, name) in [
        (AmazonS3ConfigKey::S3Endpoint, "AWS_ENDPOINT_URL_S3"),
        (AmazonS3ConfigKey::Endpoint, "s3.endpoint or AWS_ENDPOINT_URL"),
    ] {
        if let Some(url) = builder.get_config_value(&key) {
            let invalid = || format!("the URL of the object store ({name}) is invalid");
            S3Settings::check_endpoint(&url).context(invalid)?;
            return Ok(Some(url));
        }
    }
    Ok(None)
}

/// The first repetition is soon, the last ones are 5 s apart.
fn retries(settings: &S3Settings) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: std::time::Duration::from_millis(100),
        max_backoff: std::time::Duration::from_secs(5),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 100, retry_timeout: settings.patience }
}

/// Creates a file for a download. One that is left of a process that has died is replaced; a link that somebody else has put
/// there is not followed.
fn create(path: &Path) -> std::io::Result<File> {
    match File::create_new(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            File::create_new(path)
        }
        created => created,
    }
}

fn attributes(crc32: u32) -> Attributes {
    Attributes::from_iter([(Attribute::Metadata(CRC32.into()), format!("{crc32:08x}"))])
}

async fn read_part(file: &Arc<File>, offset: u64, bytes: u64) -> Result<PutPayload> {
    let file = file.clone();
    with_disk(move || {
        let mut content = vec![0; bytes as usize];
        file.read_exact_at(&mut content, offset)?;
        Ok(PutPayload::from(content))
    })
    .await
}

fn check_part(sent: Result<object_store::Result<()>, tokio::task::JoinError>) -> Result<()> {
    match sent {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::environment(reason(&error))),
        Err(error) => Err(Error::internal(error.to_string())),
    }
}

/// Whether the store itself says that it has no such object. A bucket that is not there is not taken for one without objects,
/// nor the answer of a proxy for one of the store.
fn is_no_such_key(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { source, .. } if source.to_string().contains("NoSuchKey"))
}

/// What a request has failed with, in one line.
fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}
