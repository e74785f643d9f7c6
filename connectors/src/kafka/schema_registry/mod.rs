//! Schemas of messages, in a registry that speaks the REST interface of Confluent's.
//!
//! [`client`] makes requests, one by one. [`schemas`] has a thread that asks for the schemas of ids, so that a worker never waits for
//! the registry: until the answer is there, a format says [`NotYet`](super::ReadError::NotYet). The ids of what a sink writes with are
//! asked for when a job starts, and that is waited for.
//!
//! Not here: what a schema means ([`crate::format`]), and where its id stands in a message ([`super::wire_format`]).

mod client;
mod schemas;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_protocol::{Error, Result};

pub(super) use client::{RegisteredSchema, SchemaType};
use schemas::Schemas;

use super::settings::Value;

/// A schema registry: messages have the id of their schema in front, as Confluent's serializers write it.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use tidegate_connectors::kafka::{Kafka, KafkaSetting, SchemaRegistry};
/// # #[cfg(feature = "avro")]
/// use tidegate_connectors::AvroSchema;
///
/// #[derive(Serialize, Deserialize)]
/// struct Reading {
///     device: String,
///     celsius: f64,
/// }
///
/// # #[cfg(feature = "avro")]
/// # fn build(job: &mut tidegate::Job) -> tidegate::Result<()> {
/// let kafka = Kafka::new([KafkaSetting::new("bootstrap.servers", "localhost:9092")?]);
/// let registry = SchemaRegistry::new("https://registry.example.com:8081")?
///     .basic_auth("env:REGISTRY_USER_AND_PASSWORD")?
///     .ca_file("/etc/ssl/registry-ca.pem");
/// let hot = AvroSchema::load("hot.avsc")?;
/// job.source("readings", kafka.topic("readings").avro::<Reading>(&registry))
///     .filter(|reading| reading.celsius > 90.0)
///     .sink("hot", kafka.sink("hot").avro(hot.registered(&registry)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SchemaRegistry(Arc<Schemas>);

/// How a registry is reached.
#[derive(Clone)]
struct Settings {
    url: String,
    basic_auth: Option<Value>,
    ca_file: Option<PathBuf>,
    auto_register: bool,
}

impl SchemaRegistry {
    /// A registry at an address, `http://HOST:PORT` or `https://HOST:PORT`, with the path of the interface if it has one
    /// (`http://localhost:8080/apis/ccompat/v7` for Apicurio).
    ///
    /// # Errors
    /// If it is no such address, or has a user and a password in it: addresses are logged.
    pub fn new(url: &str) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let uri: ureq::http::Uri = url.parse().map_err(|error| {
            Error::job(format!("the address of the schema registry, {url:?}, is invalid: {error}"))
        })?;
        let authority = uri.authority().map(|authority| authority.as_str());
        if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.is_none_or(str::is_empty) {
            return Err(Error::job(format!(
                "the address of the schema registry, {url:?}, does not begin with http:// or https:// and a host"
            )));
        }
        if authority.is_some_and(|authority| authority.contains('@')) {
            return Err(Error::job(
                "the address of the schema registry has a user or a password in it, and would stand in logs: take them out, and give \
                 USER:PASSWORD by basic_auth(\"env:NAME\") or basic_auth(\"file:PATH\")",
            ));
        }
        Ok(Self::of(Settings { url: url.to_owned(), basic_auth: None, ca_file: None, auto_register: true }))
    }

    fn of(settings: Settings) -> Self {
        Self(Arc::new(Schemas::new(settings)))
    }

    /// With a user and a password, `USER:PASSWORD`, which are in an environment variable (`env:NAME`) or in a file (`file:PATH`).
    ///
    /// # Errors
    /// If it is neither of the two: a secret in the code or in an argument stands in logs and snapshots.
    pub fn basic_auth(self, place: &str) -> Result<Self> {
        match Value::parse(place) {
            Value::Literal(_) => Err(Error::job(
                "user and password of the schema registry are a secret, and would stand in logs and snapshots: put USER:PASSWORD into a \
                 file or an environment variable, and give file:PATH or env:NAME",
            )),
            value => Ok(Self::of(Settings { basic_auth: Some(value), ..self.0.settings().clone() })),
        }
    }

    /// With the certificates of the authorities, as PEM, of which one has to have signed that of the registry; those of the
    /// system if nothing is said.
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self::of(Settings { ca_file: Some(path.into()), ..self.0.settings().clone() })
    }

    /// Whether sinks register their schemas, which they do if nothing is said. Otherwise those have to be there.
    #[must_use]
    pub fn auto_register(self, auto_register: bool) -> Self {
        Self::of(Settings { auto_register, ..self.0.settings().clone() })
    }

    /// Refuses settings that cannot be right. Nothing is connected.
    pub(super) fn check(&self) -> Result<()> {
        self.0.check()
    }

    pub(super) fn schemas(&self) -> &Arc<Schemas> {
        &self.0
    }
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaRegistry({})", self.0.settings().url)
    }
}

/// A schema together with a registry.
///
/// At a sink, it is registered there, and messages have its id in front. At a source, messages have the ids of the schemas that they
/// were written with, and are read as this one has them.
#[derive(Clone, Debug)]
pub struct Registered<S> {
    pub(super) schema: S,
    pub(super) registry: SchemaRegistry,
    subject: Option<String>,
}

impl<S> Registered<S> {
    pub(super) fn new(schema: S, registry: &SchemaRegistry) -> Self {
        Self { schema, registry: registry.clone(), subject: None }
    }

    /// The name that a sink registers its schema under; `TOPIC-value` if nothing is said.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    /// The id of the schema, which is registered for a topic or was before.
    pub(super) fn id(&self, topic: &str, kind: SchemaType, text: &str) -> Result<u32> {
        let subject = self.subject.clone().unwrap_or_else(|| format!("{topic}-value"));
        self.registry.0.id(&subject, kind, text)
    }
}

/// What a source reads messages by: a schema, or the registry that has those of the messages, or both.
#[derive(Clone, Debug)]
pub struct SourceSchema<S>(pub(super) By<S>);

#[derive(Clone, Debug)]
pub(super) enum By<S> {
    /// All messages are of this schema.
    Given(S),
    /// Messages have the ids of their schemas in front; they are read as this schema has them, if there is one.
    Ids(SchemaRegistry, Option<S>),
}

impl<S> SourceSchema<S> {
    pub(super) fn check(&self) -> Result<()> {
        match &self.0 {
            By::Given(_) => Ok(()),
            By::Ids(registry, _) => registry.check(),
        }
    }
}

impl<S> From<&SchemaRegistry> for SourceSchema<S> {
    fn from(registry: &SchemaRegistry) -> Self {
        Self(By::Ids(registry.clone(), None))
    }
}

impl<S> From<Registered<S>> for SourceSchema<S> {
    fn from(registered: Registered<S>) -> Self {
        Self(By::Ids(registered.registry, Some(registered.schema)))
    }
}

/// What a sink writes messages by: a schema, which may be registered.
#[derive(Clone, Debug)]
pub struct SinkSchema<S> {
    pub(super) schema: S,
    pub(super) registered: Option<Registered<S>>,
}

impl<S: Clone> From<Registered<S>> for SinkSchema<S> {
    fn from(registered: Registered<S>) -> Self {
        Self { schema: registered.schema.clone(), registered: Some(registered) }
    }
}

impl<S> SinkSchema<S> {
    pub(super) fn plain(schema: S) -> Self {
        Self { schema, registered: None }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.registered.as_ref().map_or(Ok(()), |registered| registered.registry.check())
    }
}

#[cfg(test)]
pub(super) mod tests;
