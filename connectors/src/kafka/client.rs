//! What producers and consumers have in common: their log, and how an error of theirs is reported.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
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

/// How long to wait for an answer with the leaders of partitions.
const LEADERS: Duration = Duration::from_secs(2);
/// How often there are statistics, as a setting of a client that lives for as long as a job.
pub(super) const STATISTICS: (&str, &str) = ("statistics.interval.ms", "1000");

/// For how long a broker may not know a topic or a partition's leader: it was made, it has started, or it was elected just now.
pub(super) const UNKNOWN: Duration = Duration::from_secs(30);

/// For how long brokers may refuse a client's name, password or certificates before a job ends that cannot do without them.
pub(super) const REFUSED: Duration = Duration::from_secs(10);

/// What a client's context has in common with all others: it writes the log, and keeps why the brokers do not let the client in. Calls
/// do not return that: they time out.
#[derive(Debug, Default)]
pub(super) struct Logging {
    refusal: Mutex<Option<Refusal>>,
    /// Whether the client knows no broker any more.
    is_lost: AtomicBool,
}

/// Why brokers do not let a client in. A code that is not permanent is that of a client without a token to show.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) since: Instant,
}

/// The broker that librdkafka's reason for an error begins with.
fn broker_of(reason: &str) -> &str {
    reason.split_once(": ").map_or("", |(broker, _)| broker)
}

impl Logging {
    fn lock(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from statistics where the client has learned of its brokers.
    pub(super) fn know<'a>(&self, mut sources: impl Iterator<Item = &'a str>) {
        let is_known = sources.any(|source| matches!(source, "learned" | "configured"));
        self.is_lost.store(!is_known, Ordering::Relaxed);
    }

    /// Whether the client knew no broker when there were statistics last; told once each time.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed) && self.is_lost.swap(false, Ordering::Relaxed)
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
        let mut refusal = self.lock();
        match code_of(error) {
            Code::BrokerTransportFailure => {
                // A connection that breaks while the client is let in is reported as a refusal.
                refusal.take_if(|refusal| broker_of(&refusal.reason) == broker_of(reason));
            }
            code @ (Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::GroupAuthorizationFailed) => {
                // Where tokens come from may be away as the brokers may be. librdkafka does not tell that from a refusal there: it asks again,
                // and so it is waited for.
                let has_no_token = reason.contains("SASL OAUTHBEARER token");
                let code = if has_no_token { Code::BrokerTransportFailure } else { code };
                refusal.take_if(|earlier| !is_permanent(earlier.code));
                let now = Instant::now();
                refusal.get_or_insert_with(|| Refusal { code, reason: reason.to_owned(), since: now });
            }
            _ => {}
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

/// Names its bootstrap servers to a client that knows no broker any more. A broker that has been paused, or has just started, may answer
/// that there is none, not even itself. librdkafka (2.12) then forgets all that it knew, and may never ask anybody again. Whether it was so.
pub(super) fn bootstrap_if_lost<C: ClientContext>(
    client: &Client<C>,
    logging: &Logging,
    brokers: &str,
) -> bool {
    if !logging.is_lost() {
        return false;
    }
    warn!(target: "kafka", "brokers have answered that there are none; the bootstrap servers {brokers} are asked again");
    if let Ok(brokers) = CString::new(brokers) {
        // SAFETY: the client is alive, and librdkafka copies the text.
        unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
    }
    true
}

/// Has the client ask for the leaders of a topic's partitions, or of all. After it has forgotten all brokers it does not by itself.
/// Whether there was an answer, which librdkafka has taken in.
pub(super) fn ask_for_leaders<C: ClientContext>(client: &Client<C>, topic: Option<&str>) -> bool {
    client.fetch_metadata(topic, LEADERS).is_ok()
}

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

/// Whether a message was refused because of another one that was sent with it, whose error says why.
pub(super) fn is_of_another(code: Code) -> bool {
    code == Code::InvalidDifferentRecord
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
            | Code::MessageBatchTooLarge
            | Code::InvalidArgument
            | Code::PolicyViolation
            | Code::InvalidRecord
            | Code::InvalidDifferentRecord
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
        Code::MessageBatchTooLarge => {
            "; keep the Kafka setting batch.size below segment.bytes of the topic, or make records smaller in front of the sink"
        }
        Code::InvalidTimestamp => {
            "; the topic takes no timestamp that is so far from now (message.timestamp.before.max.ms, message.timestamp.after.max.ms): \
             raise that, or set another timestamp, by write_by"
        }
        Code::OffsetMetadataTooLarge => "; offset.metadata.max.bytes of the brokers must be at least 4096",
        Code::InvalidRecord => {
            "; a compacted topic takes only records with a key, and every topic only timestamps that are not too far from now \
             (message.timestamp.before.max.ms, message.timestamp.after.max.ms). The log has what the broker says"
        }
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
