//! Publishes staged messages: short transactions, each with its marker, when their snapshot is complete.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tidegate_connector_api::{Publisher, StagedOutput, Waiting};
use tidegate_protocol::{Epoch, Error, Result};
use tracing::{info, warn};

use super::client::{UNKNOWN, code_of, is_permanent, is_unknown, remedy};
use super::marker::{self, Marker, Unread};
use super::output::{Left, Output, Place};
use super::producer::{Failed, Producer};
use super::settings::Settings;
use super::sink::{TopicSink, WhenUnknown};

/// So many bytes, as they are staged, go into one transaction: a reader waits for all of it.
const TRANSACTION_BYTES: u64 = 32 << 20;
/// The least that it is tried with, where more could not be sent within the timeout of a transaction.
const LEAST_TRANSACTION_BYTES: u64 = 256 << 10;
/// The first and the longest pause before another try.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// From when on a delay is logged; again whenever it has doubled.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this time, or a quarter of that for which brokers keep it, a marker is written again although there is no output.
const REFRESHED: Duration = Duration::from_secs(86_400);

/// The publisher of one slot.
pub(super) struct TopicPublisher {
    sink: TopicSink,
    /// The transactional id of the slot in the job that runs. Output of a restored snapshot may have another one.
    id: String,
    session: Option<Session>,
    /// So many bytes go into one transaction now.
    part_bytes: u64,
    /// The markers that a new session may find.
    expected: Option<Expected>,
}

/// What this publisher knows of the marker of a transactional id. Nobody else writes one while it does, so another one is that of
/// a newer attempt or of another job.
struct Expected {
    id: String,
    /// The marker that was found or written last.
    last: Option<Marker>,
    /// That of the output that was being published when a session has failed.
    tried: Option<Marker>,
}

/// A producer that has fenced all others with its id, and the marker that it has found or written.
struct Session {
    id: String,
    producer: Producer,
    marker: Option<Marker>,
    /// The marker of the output that is being published.
    tried: Option<Marker>,
    written: Option<Instant>,
}

/// Why a try has failed.
enum Failure {
    /// Another try would fail in the same way.
    Final(Error),
    /// Nothing is known: another try begins with a new producer, and asks for the marker.
    Temporary(Code, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl TopicPublisher {
    pub(super) fn new(sink: TopicSink, id: String) -> Self {
        Self { sink, id, session: None, part_bytes: TRANSACTION_BYTES, expected: None }
    }

    /// Tries until it is done, or there is no use in trying.
    fn insist<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&mut Self) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let (began, mut pause, mut patience) = (Instant::now(), PAUSE.0, PATIENCE);
        let mut unknown_since: Option<Instant> = None;
        let mut waiting: Option<Waiting> = None;
        loop {
            let (code, text) = match attempt(self) {
                Ok(done) => {
                    if patience > PATIENCE {
                        info!(target: "kafka", "{what} has taken {} s", began.elapsed().as_secs());
                    }
                    return Ok(done);
                }
                Err(Failure::Final(error)) => {
                    self.abandon();
                    return Err(error);
                }
                Err(Failure::Temporary(code, text)) => (code, text),
            };
            let took = began.elapsed();
            unknown_since = is_unknown(code).then(|| unknown_since.unwrap_or_else(Instant::now));
            let may_heal = unknown_since.is_some_and(|since| since.elapsed() < UNKNOWN);
            if is_permanent(code) && !may_heal {
                self.abandon();
                return Err(Error::environment(format!("{what}: {text}{}", remedy(code))));
            }
            self.close();
            if took > PATIENCE {
                let shown = format!("{what}: {text}");
                waiting.get_or_insert_with(|| Waiting::since(began, "")).set(shown);
            }
            if took > patience {
                warn!(target: "kafka", "{what} has taken {} s so far: {text}", took.as_secs());
                patience *= 2;
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(PAUSE.1);
        }
    }

    /// Gives a session up for good: nobody would end its open transaction before the brokers do, and readers would wait.
    fn abandon(&mut self) {
        if let Some(session) = &self.session {
            session.producer.abort();
        }
        self.close();
    }

    /// Gives a session up: what its last transaction has become of, the next one finds.
    fn close(&mut self) {
        if let Some(Session { id, marker, tried, .. }) = self.session.take() {
            self.expected = Some(Expected { id, last: marker, tried });
        }
    }

    /// The session of a transactional id; it is made if there is none.
    fn session(&mut self, id: &str, topic: &str) -> std::result::Result<&mut Session, Failure> {
        if self.session.as_ref().is_some_and(|session| session.id != id) {
            self.close();
        }
        match &mut self.session {
            Some(session) => Ok(session),
            none => {
                let session = Session::open(&self.sink.settings, id, topic)?;
                if let Some(expected) = self.expected.as_ref().filter(|expected| expected.id == id) {
                    expected.check(session.marker.as_ref())?;
                }
                Ok(none.insert(session))
            }
        }
    }

    fn publish_output(&mut self, output: &Output<'_>) -> std::result::Result<(), Failure> {
        let (retention, when_unknown) = (self.sink.marker_retention, self.sink.when_unknown);
        let part_bytes = self.part_bytes;
        let Place { id, topic, .. } = &output.place;
        let session = self.session(id, topic)?;
        let left = match (output.left(session.marker.as_ref(), retention), when_unknown) {
            (Err(error), WhenUnknown::Fail) => return Err(error.into()),
            (Err(_), WhenUnknown::Publish) => Left::From(0),
            (Err(_), WhenUnknown::Skip) => Left::Nothing,
            (Ok(left), _) => left,
        };
        let Left::From(first) = left else { return Ok(()) };
        if output.is_restored || output.bytes() > part_bytes {
            // A file that turns out to be damaged half way would be in the topic by half.
            output.check()?;
        }
        let (began, timeout) = (Instant::now(), session.producer.timeout());
        let published = session.publish(output, first, part_bytes);
        self.part_bytes = match published {
            Err(_) => less(part_bytes.min(output.bytes()), began.elapsed(), timeout).unwrap_or(part_bytes),
            Ok(()) => (2 * part_bytes).min(TRANSACTION_BYTES),
        };
        published
    }

    /// Writes the marker again, as it is, if it is old: brokers forget it.
    fn refresh(&mut self) -> std::result::Result<(), Failure> {
        let (id, topic) = (self.id.clone(), self.sink.topic.clone());
        let age = REFRESHED.min(self.sink.marker_retention / 4);
        let session = self.session(&id, &topic)?;
        match session.marker.clone() {
            Some(found) if session.written.is_none_or(|at| at.elapsed() > age) => {
                session.begin(found.clone())?;
                session.commit(found, &topic).map_err(|failed| session.failure(None, failed))
            }
            _ => Ok(()),
        }
    }
}

impl Expected {
    fn check(&self, found: Option<&Marker>) -> std::result::Result<(), Failure> {
        // An older attempt that is still alive, or another job that has restored the same snapshot, may have published the same
        // output, or a part of it.
        let is_tried = found.zip(self.tried.as_ref()).is_some_and(|(found, tried)| found.is_of_same(tried));
        if found == self.last.as_ref() || is_tried {
            return Ok(());
        }
        let what = found.map_or_else(
            || "what is published is not noted any more".to_owned(),
            |found| format!("epoch {} of attempt {} was published", found.epoch, found.attempt),
        );
        let newer = |last: &Marker| found.is_some_and(|found| found.attempt > last.attempt);
        let id = &self.id;
        Err(Failure::Final(if self.tried.as_ref().or(self.last.as_ref()).is_some_and(newer) {
            Error::environment(format!(
                "{what} under the transactional id {id}: a newer attempt goes on, and this one must end"
            ))
        } else {
            Error::job(format!(
                "{what} under the transactional id {id} by another run of the job: two run with copies of one checkpoint directory. \
                 End one of them; or remove the file job-id from its directory, which makes it another job that repeats what came \
                 after its snapshot, and start it again"
            ))
        }))
    }
}

impl Publisher for TopicPublisher {
    fn prepare(&mut self, restored: Option<Epoch>) -> Result<()> {
        let (id, topic) = (self.id.clone(), self.sink.topic.clone());
        let what = format!("connecting the producer {id} to publish to {topic}");
        let found = self.insist(&what, |this| Ok(this.session(&id, &topic)?.marker.clone()))?;
        let restored = restored.unwrap_or_default();
        match found {
            Some(found) if found.epoch > restored => Err(Error::job(format!(
                "the topic {topic} has the output of epochs up to {}, and the job goes on from the snapshot of epoch {restored}: what \
                 lies between would be there twice, and cannot be taken back from a topic. Put the newer snapshot back; or, if \
                 that output may be repeated, go on as another job: on a cluster by `run -s SNAPSHOT`, alone with a copy of the \
                 checkpoint directory that has no file job-id",
                found.epoch
            ))),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, epoch: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()> {
        if outputs.is_empty() {
            // Only where there is a connection: what restores a snapshot has no use for a new one.
            return match self.session {
                Some(_) => self.insist("writing the marker again", Self::refresh),
                None => Ok(()),
            };
        }
        for output in Output::all(epoch, outputs)? {
            let what = format!("publishing epoch {epoch} to {}", output.place.topic);
            self.insist(&what, |this| this.publish_output(&output))?;
        }
        Ok(())
    }
}

impl Session {
    fn open(settings: &Settings, id: &str, topic: &str) -> std::result::Result<Self, Failure> {
        let producer = Producer::new(settings, id)?;
        producer.init().map_err(|error| {
            match producer.refusal().filter(|refusal| refusal.code != Code::SSL) {
                Some(refusal) => Failure::Temporary(
                    refusal.code,
                    format!("the brokers do not let the job in: {}", refusal.reason),
                ),
                None => temporary(id, "init_transactions", &error),
            }
        })?;
        let marker = match marker::read(settings, id, topic) {
            Ok(marker) => marker,
            Err(Unread::Client(error)) => return Err(error.into()),
            Err(Unread::Kafka(error)) => {
                return Err(temporary(id, "the marker of what is published", &error));
            }
            Err(Unread::Foreign(found)) => {
                return Err(Failure::Final(Error::job(format!(
                    "the group {id} has {found} for the topic {topic}, which no sink has written: delete the group, or give the \
                     sink another prefix"
                ))));
            }
        };
        Ok(Self { id: id.to_owned(), producer, marker, tried: None, written: None })
    }

    /// Publishes an output from a message on, in as many transactions as its size asks for.
    fn publish(
        &mut self,
        output: &Output<'_>,
        first: u64,
        part_bytes: u64,
    ) -> std::result::Result<(), Failure> {
        let topic = &output.place.topic;
        let (mut next, mut bytes) = (first, 0);
        self.begin(output.marker(first))?;
        output.messages(first, |number, message| {
            if bytes > part_bytes {
                let part = self.commit(output.marker(number), topic);
                part.map_err(|failed| self.failure(Some(output), failed))?;
                self.begin(output.marker(number))?;
                bytes = 0;
            }
            let to = message.topic.unwrap_or(topic);
            let sent = self.producer.send(to, message, number);
            sent.map_err(|failed| self.failure(Some(output), failed))?;
            bytes += message.bytes() as u64;
            next = number + 1;
            Ok::<(), Failure>(())
        })?;
        let marker = output.marker(next);
        if next != marker.messages {
            let (epoch, messages) = (output.epoch, marker.messages);
            return Err(Failure::Final(Error::environment(format!(
                "the staged output of epoch {epoch} has {next} messages, and the snapshot names {messages}"
            ))));
        }
        self.commit(marker, topic).map_err(|failed| self.failure(Some(output), failed))
    }

    /// Begins a transaction of the output that has this marker.
    fn begin(&mut self, marker: Marker) -> std::result::Result<(), Failure> {
        self.tried = Some(marker);
        self.producer.begin().map_err(|error| temporary(&self.id, "begin_transaction", &error))
    }

    fn commit(&mut self, marker: Marker, topic: &str) -> std::result::Result<(), Failed> {
        let marker = marker.after(self.marker.as_ref());
        self.producer.commit(&marker, topic)?;
        (self.marker, self.written) = (Some(marker), Some(Instant::now()));
        Ok(())
    }

    fn failure(&self, output: Option<&Output<'_>>, failed: Failed) -> Failure {
        match failed {
            Failed::Kafka(error) => temporary(&self.id, "the transaction", &error),
            Failed::Message { number, code } => {
                let which = output.and_then(|output| output.describe(number, code)).unwrap_or_default();
                Failure::Temporary(code, format!("{which}: {code}"))
            }
        }
    }
}

/// How much to put into one transaction when a try with `tried` bytes has failed after some time. All of a transaction has to be sent
/// within its timeout, and every try would fail that sends as much.
fn less(tried: u64, took: Duration, timeout: Duration) -> Option<u64> {
    (took > timeout / 2).then(|| (tried / 2).max(LEAST_TRANSACTION_BYTES))
}

fn temporary(id: &str, what: &str, error: &KafkaError) -> Failure {
    let code = code_of(error);
    if matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) {
        let text = format!(
            "another producer uses the transactional id {id}, which is taken back from it ({what}: {error})"
        );
        warn!(target: "kafka", "{text}");
        return Failure::Temporary(code, text);
    }
    Failure::Temporary(code, format!("{what} of {id}: {error}"))
}

#[cfg(test)]
mod tests {
    use tidegate_connector_api::Attempt;

    use super::*;

    #[test]
    fn less_goes_into_a_transaction_when_one_took_too_long() {
        let (seconds, timeout) = (Duration::from_secs, Duration::from_secs(60));
        assert_eq!(less(30 << 20, seconds(61), timeout), Some(15 << 20));
        assert_eq!(less(30 << 20, seconds(29), timeout), None, "it has failed for another reason");
        assert_eq!(less(300 << 10, seconds(61), timeout), Some(256 << 10));
    }

    #[test]
    fn a_marker_that_this_publisher_did_not_write_ends_it() {
        let marker = |epoch: u64, attempt: u32, run: u32| Marker {
            epoch: Epoch(epoch),
            attempt: Attempt(attempt),
            run,
            done: 1,
            messages: 1,
            crc32: 1,
            before: Vec::new(),
        };
        let (last, tried) = (Some(marker(4, 3, 1)), Some(marker(5, 3, 1)));
        let expected = Expected { id: "id".into(), last: last.clone(), tried: tried.clone() };
        let verdict = |found: Option<Marker>| match expected.check(found.as_ref()) {
            Ok(()) => String::new(),
            Err(Failure::Final(error)) => error.to_string(),
            Err(Failure::Temporary(..)) => unreachable!("another try finds the same"),
        };
        assert_eq!(
            (verdict(last), verdict(tried)),
            (String::new(), String::new()),
            "not committed, or committed"
        );
        assert_eq!(verdict(Some(Marker { done: 0, ..marker(5, 3, 1) })), "", "a part of it");
        assert!(verdict(Some(marker(5, 3, 2))).contains("another run of the job"));
        assert!(verdict(Some(marker(5, 4, 2))).contains("a newer attempt goes on"));
        assert!(verdict(None).contains("is not noted any more"));
    }
}
