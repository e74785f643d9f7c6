//! What producers and consumers have in common: their log, and how an error of theirs is reported.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::{debug, error, info, warn};

/// Settings of every client that suit a job better than librdkafka's defaults, and that a user may change.
pub(super) const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "tidegate"),
    // A new client waits for half of this time before it connects to the broker that it needs.
    ("reconnect.backoff.ms", "20"),
    // A broker that is back is to be found in a second or two, and not in ten.
    ("reconnect.backoff.max.ms", "2000"),
    ("allow.auto.create.topics", "false"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// For how long a broker may not know a topic or a partition's leader: it was made, it has started, or it was elected just now.
pub(super) const UNKNOWN: Duration = Duration::from_secs(30);

/// For how long brokers may refuse a client's name, password or certificates before a job ends that cannot do without them.
pub(super) const REFUSED: Duration = Duration::from_secs(10);

/// What a client's context has in common with all others: it writes the log, and keeps why the brokers do not let the client in. Calls
/// do not return that: they time out.
#[derive(Debug, Default)]
pub(super) struct Logging(Mutex<Option<Refusal>>);

/// Why brokers do not let a client in.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) since: Instant,
}

impl Logging {
    fn lock(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the brokers have not let the client in since the last answer.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.lock().clone()
    }

    /// The brokers have answered.
    pub(super) fn is_let_in(&self) {
        *self.lock() = None;
    }

    pub(super) fn failed(&self, error: &KafkaError, reason: &str) {
        warn!(target: "kafka", "{error}: {reason}");
        let code = code_of(error);
        if matches!(
            code,
            Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::SSL
                | Code::GroupAuthorizationFailed
        ) {
            let refusal = || Refusal { code, reason: reason.to_owned(), since: Instant::now() };
            self.lock().get_or_insert_with(refusal);
        }
    }
}

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.failed(&error, reason);
    }
}

impl ConsumerContext for Logging {}

/// Writes a line of librdkafka's log to the log of the process.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        _ if is_of_the_other_kind(message) => debug!(target: "kafka", "{facility}: {message}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(target: "kafka", "{facility}: {message}");
        }
        // That a broker cannot be reached is one of its errors, and nothing that a job could not live with.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(target: "kafka", "{facility}: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "kafka", "{facility}: {message}"),
        RDKafkaLogLevel::Debug => debug!(target: "kafka", "{facility}: {message}"),
    }
}

/// Whether librdkafka says that a setting of producers is given to a consumer, or the other way round. All settings go to all clients, so
/// every start of a job would say so for every client.
fn is_of_the_other_kind(message: &str) -> bool {
    ["is a producer property and will be ignored", "is a consumer property and will be ignored"]
        .iter()
        .any(|said| message.contains(said))
}

/// The code of an error; the errors of this crate's own calls have none.
pub(super) fn code_of(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Unknown)
}

/// Whether a topic or a partition is not known, which may be true for a moment only.
pub(super) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
}

/// Whether an error is there to stay until somebody does something about it; what may heal by itself is not.
pub(super) fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::InvalidTransactionTimeout
            | Code::InvalidTopic
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::PolicyViolation
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::OffsetMetadataTooLarge
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedForMessageFormat
            | Code::SSL
            | Code::InvalidRequiredAcks
            | Code::InvalidReplicationFactor
    )
}

/// What an operator can do about an error; empty where there is nothing to say.
pub(super) fn remedy(code: Code) -> &'static str {
    match code {
        Code::TopicAuthorizationFailed => "; the job's user needs the right to read or write the topic",
        Code::GroupAuthorizationFailed => {
            "; the job's user needs the right Read for the consumer group (group.id, and for a sink the groups that are called like its \
             transactional ids)"
        }
        Code::TransactionalIdAuthorizationFailed => {
            "; the job's user needs the rights Write and Describe for its transactional ids"
        }
        Code::ClusterAuthorizationFailed => {
            "; the job's user needs the right IdempotentWrite for the cluster"
        }
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "; check sasl.username, sasl.password and sasl.mechanisms"
        }
        Code::SSL => "; check security.protocol, ssl.ca.location and the certificates of both sides",
        Code::InvalidTransactionTimeout => {
            "; transaction.timeout.ms must not be larger than the broker's transaction.max.timeout.ms"
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition => "; create the topic",
        Code::UnknownPartition => "; the topic has fewer partitions",
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            "; raise max.message.bytes of the topic, keep the Kafka setting batch.size below it, or make records smaller in front of \
             the sink"
        }
        Code::InvalidTimestamp => {
            "; the topic takes no timestamp that is so far from now (message.timestamp.before.max.ms, message.timestamp.after.max.ms): \
             raise that, or set another timestamp, by write_by"
        }
        Code::OffsetMetadataTooLarge => "; offset.metadata.max.bytes of the brokers must be at least 4096",
        Code::InvalidRecord => "; a compacted topic takes only records with a key",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_the_other_kind_of_client_is_no_warning() {
        let text = "[thrd:app]: Configuration property transaction.timeout.ms is a producer property and will be ignored by this consumer \
                    instance";
        assert!(is_of_the_other_kind(text));
        assert!(!is_of_the_other_kind("[thrd:app]: Configuration property x is deprecated: use y"));
    }
}
