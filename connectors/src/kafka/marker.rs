//! The marker in a sink's transactions: an offset that is committed with the messages, and says which of them are there.
//!
//! It is stored in Kafka as the offset of a group that is called like the transactional id, for partition 0 of the sink's topic. The
//! offset is the epoch, and the metadata says the rest as text.

use std::fmt;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaType;
use rdkafka::{Offset, TopicPartitionList};
use tidegate_protocol::{Attempt, Epoch, Result};

use super::client::{DEFAULTS, Logging};
use super::settings::Settings;

/// How long one question may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How many earlier runs a marker remembers. An offset's metadata may have 4 KiB.
const HISTORY: usize = 64;

/// How far the output of a transactional id is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// The last epoch of which anything is published.
    pub(super) epoch: Epoch,
    /// The attempt that has staged it.
    pub(super) attempt: Attempt,
    /// The number that the writer which has staged it has drawn: attempts of two copies of a job have the same numbers.
    pub(super) run: u32,
    /// How many of the epoch's messages are published, and how many there are.
    pub(super) done: u64,
    pub(super) messages: u64,
    /// The checksum of the epoch's staged output.
    pub(super) crc32: u32,
    /// Earlier runs, the newest first, and the last epoch of each that is published.
    pub(super) before: Vec<(u32, Epoch)>,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, run, done, messages, crc32, before, .. } = self;
        write!(f, "1 attempt={attempt} run={run:08x} done={done} of={messages} crc32={crc32:08x} before=")?;
        before.iter().try_for_each(|(run, epoch)| write!(f, "{run:08x}:{epoch},"))
    }
}

impl Marker {
    pub(super) fn parse(epoch: i64, text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        (words.next()? == "1").then_some(())?;
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let earlier = |text: &str| {
            let (run, epoch) = text.split_once(':')?;
            Some((u32::from_str_radix(run, 16).ok()?, Epoch(epoch.parse().ok()?)))
        };
        Some(Self {
            epoch: Epoch(u64::try_from(epoch).ok()?),
            attempt: Attempt(value("attempt")?.parse().ok()?),
            run: u32::from_str_radix(value("run")?, 16).ok()?,
            done: value("done")?.parse().ok()?,
            messages: value("of")?.parse().ok()?,
            crc32: u32::from_str_radix(value("crc32")?, 16).ok()?,
            before: value("before")?.split_terminator(',').map(earlier).collect::<Option<_>>()?,
        })
    }

    /// The same, written over another one.
    pub(super) fn after(self, found: Option<&Self>) -> Self {
        let Some(found) = found else { return self };
        let last = (found.run != self.run).then_some((found.run, found.epoch));
        let before = last.into_iter().chain(found.before.iter().copied());
        Self { before: before.filter(|(run, _)| *run != self.run).take(HISTORY).collect(), ..self }
    }

    /// The last epoch of a run that is published, if the run is known.
    pub(super) fn last_of(&self, run: u32) -> Option<Epoch> {
        let earlier = || self.before.iter().find(|(other, _)| *other == run).map(|(_, epoch)| *epoch);
        if self.run == run { Some(self.epoch) } else { earlier() }
    }

    /// True if both say the same of the same output, however much of it is done.
    pub(super) fn is_of_same(&self, other: &Self) -> bool {
        let of = |m: &Self| (m.epoch, m.attempt, m.run, m.messages, m.crc32);
        of(self) == of(other)
    }

    /// The marker as an offset to commit.
    pub(super) fn as_offset(&self, topic: &str) -> std::result::Result<TopicPartitionList, KafkaError> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(self.epoch.0 as i64))?;
        if let Some(mut offset) = offsets.find_partition(topic, 0) {
            offset.set_metadata(self.to_string());
        }
        Ok(offsets)
    }
}

/// Why a marker cannot be read.
pub(super) enum Unread {
    /// No client can be made.
    Client(tidegate_protocol::Error),
    /// The brokers have answered with an error, or not at all.
    Kafka(KafkaError),
    /// It is there, and is none of ours.
    Foreign(String),
}

/// Reads the marker of a transactional id. An open transaction of the id must have been aborted before: until then the brokers do
/// not tell.
pub(super) fn read(
    settings: &Settings,
    id: &str,
    topic: &str,
) -> std::result::Result<Option<Marker>, Unread> {
    let client = client(settings, id).map_err(Unread::Client)?;
    let mut found = TopicPartitionList::new();
    found.add_partition(topic, 0);
    let timeout = REQUEST.as_millis() as i32;
    // SAFETY: client and list live until the call is over.
    match Code::from(unsafe { sys::rd_kafka_committed(client.native_ptr(), found.ptr(), timeout) }) {
        Code::NoError => {}
        Code::GroupIdNotFound => return Ok(None),
        // A group that the job's user may not read has no coordinator for it, and the call runs out of time.
        code => return Err(Unread::Kafka(KafkaError::OffsetFetch(refusal(&client).unwrap_or(code)))),
    }
    let elements = found.elements();
    let Some(found) = elements.first() else { return Ok(None) };
    found.error().map_err(Unread::Kafka)?;
    let Offset::Offset(epoch) = found.offset() else { return Ok(None) };
    let marker = Marker::parse(epoch, found.metadata());
    marker
        .map(Some)
        .ok_or_else(|| Unread::Foreign(format!("offset {epoch} with the metadata {:?}", found.metadata())))
}

/// A consumer that consumes nothing. One of `rdkafka` would take a tenth of a second to be dropped.
fn client(settings: &Settings, id: &str) -> Result<Client<Logging>> {
    let own = [("group.id", id), ("enable.auto.commit", "false"), ("isolation.level", "read_committed")];
    let config = settings.config(&DEFAULTS, &own)?;
    let made = config.create_native_config().and_then(|native| {
        // SAFETY: the configuration is there until the client is made.
        unsafe { sys::rd_kafka_conf_set_events(native.ptr(), sys::RD_KAFKA_EVENT_ERROR) };
        Client::new(&config, native, RDKafkaType::RD_KAFKA_CONSUMER, Logging::default())
    });
    made.map_err(|error| settings.refused(error))
}

/// Why the brokers refuse the client, if they do: librdkafka reports that by events, those of the client as a whole in one queue and
/// those of its group in another.
fn refusal(client: &Client<Logging>) -> Option<Code> {
    let is_refusal = |code: &Code| {
        matches!(code, Code::GroupAuthorizationFailed | Code::Authentication | Code::SaslAuthenticationFailed)
    };
    let mut found = None;
    // SAFETY: an event is destroyed after it was looked at, and a queue after its last event; the client outlives both.
    unsafe {
        let of_client = sys::rd_kafka_queue_get_main(client.native_ptr());
        let of_group = sys::rd_kafka_queue_get_consumer(client.native_ptr());
        for queue in [of_client, of_group].into_iter().filter(|queue| !queue.is_null()) {
            loop {
                let event = sys::rd_kafka_queue_poll(queue, 0);
                if event.is_null() {
                    break;
                }
                found = found.or(Some(Code::from(sys::rd_kafka_event_error(event))).filter(is_refusal));
                sys::rd_kafka_event_destroy(event);
            }
            sys::rd_kafka_queue_destroy(queue);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(run: u32, epoch: u64) -> Marker {
        Marker {
            epoch: Epoch(epoch),
            attempt: Attempt(3),
            run,
            done: 10,
            messages: 25,
            crc32: 0xdead_beef,
            before: Vec::new(),
        }
    }

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is_taken_for_one() {
        let text = marker(0xab, 41).to_string();
        assert_eq!(text, "1 attempt=3 run=000000ab done=10 of=25 crc32=deadbeef before=");
        let second = marker(0xcd, 50).after(Some(&marker(0xab, 41)));
        assert!(second.to_string().ends_with(" before=000000ab:41,"));
        for marker in [marker(0xab, 41), second] {
            assert_eq!(Marker::parse(marker.epoch.0 as i64, &marker.to_string()), Some(marker));
        }
        assert_eq!(Marker::parse(-1, &text), None);
        for other in ["", "1", &text.replacen('1', "2", 1), &text[..text.len() - 14], &format!("{text}x")] {
            assert_eq!(Marker::parse(41, other), None, "{other}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Whoever has the right can commit any offset and metadata for a group.
        #[test]
        fn any_text_is_read_or_refused(
            epoch: i64,
            text in "1 attempt=[0-9]{1,11} run=[0-9a-f]{1,9} done=[0-9]{1,21} of=[0-9]{1,3} crc32=[+0-9a-f]{1,9} before=([0-9a-f]{0,9}:[0-9]{0,3},?){0,3}",
        ) {
            if let Some(marker) = Marker::parse(epoch, &text) {
                proptest::prop_assert_eq!(Marker::parse(epoch, &marker.to_string()), Some(marker));
            }
        }
    }

    #[test]
    fn a_marker_remembers_how_far_earlier_runs_came() {
        let mut last = marker(0, 1);
        for run in 0..100 {
            last = marker(run, 10 + u64::from(run)).after(Some(&last));
            last = marker(run, 11 + u64::from(run)).after(Some(&last));
        }
        assert_eq!((last.last_of(99), last.last_of(98)), (Some(Epoch(110)), Some(Epoch(109))));
        assert_eq!((last.last_of(35), last.last_of(34)), (Some(Epoch(46)), None), "64 of them");
        assert!(last.to_string().len() < 4_096);
    }
}
