//! The settings of librdkafka that a user gives, and those that are the connector's own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use tidegate_protocol::{Error, Result};

/// Settings whose value is a secret: it may not stand in a command line, which is logged and kept in snapshots.
const SECRETS: [&str; 9] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.config",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

/// Settings that the connector makes itself, and what to use instead.
const OWN: [(&str, &str); 10] = [
    ("auto.offset.reset", "where reading starts is said in the job"),
    ("delivery.report.only.error", "the sink counts what the brokers have taken"),
    ("enable.auto.commit", "positions are kept in snapshots"),
    ("enable.auto.offset.store", "positions are kept in snapshots"),
    ("enable.idempotence", "the sink needs it, and sets it"),
    ("enable.partition.eof", "the source needs it, and sets it"),
    ("offset.store.method", "positions are kept in snapshots"),
    ("transactional.id", "the sink makes its ids from those of the job, the sink and the slot"),
    ("statistics.interval.ms", "the connector looks every second whether brokers answer"),
    (
        "log_level",
        "the log is that of the process: set the environment variable RUST_LOG, as RUST_LOG=kafka=debug",
    ),
];

/// A setting of librdkafka, as a command line has it: `KEY=VALUE`, with a value that may be `env:NAME` or `file:PATH`.
///
/// See [librdkafka's list](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md). A secret is refused
/// unless it is in the environment or a file; it is read there when a client is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSetting {
    key: String,
    value: Value,
}

/// A value as it is, or where it is kept: `env:NAME`, `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Literal(String),
    Environment(String),
    File(PathBuf),
}

impl Value {
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some(("env", name)) => Self::Environment(name.to_owned()),
            Some(("file", path)) => Self::File(path.into()),
            _ => Self::Literal(text.to_owned()),
        }
    }

    /// The value, from where it is kept; an error says `what` is to be there. A newline at the end of a file is no part of it.
    pub(super) fn resolve(&self, what: &str) -> Result<String> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Environment(name) => std::env::var(name).map_err(|error| {
                Error::environment(format!("{what} is to be in the environment variable {name}"))
                    .caused_by(error)
            }),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.strip_suffix('\n').map_or(text.clone(), str::to_owned)),
                Err(error) => Err(Error::environment(format!(
                    "{what} is to be in the file {}, which cannot be read",
                    path.display()
                ))
                .caused_by(error)),
            },
        }
    }
}

impl KafkaSetting {
    /// A setting; see the type for the forms of a value.
    ///
    /// # Errors
    /// If the setting is the connector's own, or a secret that is neither in the environment nor in a file.
    pub fn new(key: &str, value: &str) -> Result<Self> {
        if let Some((_, instead)) = OWN.iter().find(|(own, _)| *own == key) {
            return Err(Error::job(format!("the Kafka setting {key} cannot be given: {instead}")));
        }
        let value = Value::parse(value);
        if SECRETS.contains(&key) && matches!(value, Value::Literal(_)) {
            return Err(Error::job(format!(
                "the Kafka setting {key} is a secret, and would stand in logs and snapshots: put it into a file or an \
                 environment variable, and give {key}=file:PATH or {key}=env:NAME"
            )));
        }
        Ok(Self { key: key.to_owned(), value })
    }

    fn resolve(&self) -> Result<String> {
        self.value.resolve(&format!("the Kafka setting {}", self.key))
    }
}

impl FromStr for KafkaSetting {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Self::new(key.trim(), value).map_err(|error| error.to_string())
            }
            _ => Err(format!("'{text}' is not KEY=VALUE")),
        }
    }
}

impl fmt::Display for KafkaSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Literal(value) => write!(f, "{}={value}", self.key),
            Value::Environment(name) => write!(f, "{}=env:{name}", self.key),
            Value::File(path) => write!(f, "{}=file:{}", self.key, path.display()),
        }
    }
}

/// All settings that a user has given for a source or a sink; of two with one key the last one counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings(BTreeMap<String, KafkaSetting>);

impl FromIterator<KafkaSetting> for Settings {
    fn from_iter<I: IntoIterator<Item = KafkaSetting>>(settings: I) -> Self {
        Self(settings.into_iter().map(|setting| (setting.key.clone(), setting)).collect())
    }
}

impl Settings {
    /// What clients are made with: `defaults`, then what the user has given, then `own`.
    pub(super) fn config(&self, defaults: &[(&str, &str)], own: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, setting) in &self.0 {
            config.set(key, setting.resolve()?);
        }
        for (key, value) in own {
            config.set(*key, *value);
        }
        Ok(config)
    }

    /// A client of librdkafka, with `defaults`, what the user has given, and `own`. It connects by itself.
    pub(super) fn client<T, C>(
        &self,
        defaults: &[(&str, &str)],
        own: &[(&str, &str)],
        context: C,
    ) -> Result<T>
    where
        T: FromClientConfigAndContext<C>,
        C: ClientContext,
    {
        self.check_brokers()?;
        T::from_config_and_context(&self.config(defaults, own)?, context).map_err(|error| self.refused(error))
    }

    /// The same with another value of one.
    pub(super) fn with(&self, key: &str, value: &str) -> Self {
        let mut settings = self.clone();
        let setting = KafkaSetting { key: key.to_owned(), value: Value::Literal(value.to_owned()) };
        settings.0.insert(key.to_owned(), setting);
        settings
    }

    /// A value that the user has set.
    pub(super) fn value(&self, key: &str) -> Result<Option<String>> {
        self.0.get(key).map(KafkaSetting::resolve).transpose()
    }

    /// A number that the user has set, or the one that counts otherwise.
    pub(super) fn number_or(&self, key: &str, default: &str) -> Result<u64> {
        let value = self.value(key)?.unwrap_or_else(|| default.to_owned());
        value.parse().map_err(|_| Error::job(format!("the Kafka setting {key}={value} is not a number")))
    }

    /// Refuses settings that librdkafka does not know, or whose value it does not take. Nothing is connected.
    pub(super) fn check(&self) -> Result<()> {
        let config = self.config(&[], &[])?;
        config.create_native_config().map_err(|error| self.refused(error))?;
        self.check_brokers()
    }

    /// An error if it is not said where the brokers are.
    pub(super) fn check_brokers(&self) -> Result<()> {
        if self.0.contains_key("bootstrap.servers") {
            return Ok(());
        }
        Err(Error::job(
            "the Kafka setting bootstrap.servers is missing: say where the brokers are, as HOST:PORT,HOST:PORT",
        ))
    }

    /// An error of making a client, by the setting's name and without its value where that is a secret.
    pub(super) fn refused(&self, error: KafkaError) -> Error {
        match error {
            KafkaError::ClientConfig(_, why, key, _) => match self.0.get(&key) {
                Some(setting) => Error::job(format!("the Kafka setting {setting} is invalid: {why}")),
                None => Error::job(format!("the Kafka setting {key} is invalid: {why}")),
            },
            other => Error::job(format!("a Kafka client cannot be made with these settings: {other}")),
        }
    }

    /// The brokers, for messages.
    pub(super) fn brokers(&self) -> String {
        self.0.get("bootstrap.servers").and_then(|setting| setting.resolve().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> std::result::Result<KafkaSetting, String> {
        text.parse()
    }

    fn settings(texts: &[&str]) -> Settings {
        texts.iter().map(|text| setting(text).unwrap()).collect()
    }

    #[test]
    fn a_secret_is_named_where_it_is_and_shown_nowhere() {
        let refused = setting("sasl.password=hunter2").unwrap_err();
        assert!(refused.contains("sasl.password=file:PATH") && !refused.contains("hunter2"), "{refused}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let given = setting(&format!("sasl.password=file:{}", file.path().display())).unwrap();
        assert_eq!(given.resolve().unwrap(), "hunter2");
        let all: Settings = [given, setting("bootstrap.servers=a:1").unwrap()].into_iter().collect();
        assert!(!format!("{all:?}").contains("hunter2"));
        let missing = settings(&["bootstrap.servers=a:1", "sasl.password=env:TIDEGATE_NO_SUCH_VARIABLE"]);
        let error = missing.check().unwrap_err().to_string();
        assert!(error.contains("sasl.password") && error.contains("TIDEGATE_NO_SUCH_VARIABLE"), "{error}");
    }

    #[test]
    fn what_librdkafka_does_not_take_is_refused_by_name() {
        let error = |texts: &[&str]| settings(texts).check().unwrap_err().to_string();
        let boot = "bootstrap.servers=a:1";
        assert!(error(&[]).contains("bootstrap.servers is missing"));
        assert!(error(&["bootstrap.server=a:1"]).contains("bootstrap.server=a:1 is invalid"));
        assert!(error(&[boot, "linger.mss=5"]).contains("linger.mss"), "{}", error(&[boot, "linger.mss=5"]));
        assert!(error(&[boot, "linger.ms=soon"]).contains("linger.ms=soon"));
        assert!(setting("transactional.id=x").unwrap_err().contains("the sink makes its ids"));
        // An at-least-once sink would wait for ever for what the brokers have.
        assert!(setting("delivery.report.only.error=true").unwrap_err().contains("cannot be given"));
        assert!(setting("acks").unwrap_err().contains("is not KEY=VALUE"));
        settings(&[boot, "linger.ms=5", "linger.ms=7", "security.protocol=ssl"]).check().unwrap();
    }
}
