//! A message that a sink is to write, and its form in a staged file.

use std::io::{self, Read};

use serde::{Deserialize, Serialize, Serializer};

/// A message for a topic, filled in by a format. What is not set is left to the sink (the topic), to librdkafka (the partition)
/// or to the record (the timestamp: its event time, or else the time of producing). A message without a value is a tombstone.
#[derive(Debug, Default)]
pub struct OutgoingMessage {
    topic: Option<String>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Buffer,
    value: Buffer,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Bytes that are set or not; the memory is kept for the next message.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    is_set: bool,
}

impl Buffer {
    fn set(&mut self) -> &mut Vec<u8> {
        self.is_set = true;
        &mut self.bytes
    }

    fn get(&self) -> Option<&[u8]> {
        self.is_set.then_some(&self.bytes)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.is_set = false;
    }
}

impl OutgoingMessage {
    /// Sends the message to another topic than the sink's.
    pub fn set_topic(&mut self, topic: &str) {
        self.topic = Some(topic.to_owned());
    }

    /// Sends the message to this partition, and not to the one that follows from its key.
    pub fn set_partition(&mut self, partition: i32) {
        self.partition = Some(partition);
    }

    /// Sets the timestamp, in milliseconds since the Unix epoch.
    pub fn set_timestamp(&mut self, timestamp: i64) {
        self.timestamp = Some(timestamp);
    }

    /// The bytes of the key, to be appended to; calling it gives the message a key.
    pub fn key(&mut self) -> &mut Vec<u8> {
        self.key.set()
    }

    /// The bytes of the value, to be appended to; calling it gives the message a value.
    pub fn value(&mut self) -> &mut Vec<u8> {
        self.value.set()
    }

    /// Adds a header.
    pub fn add_header(&mut self, name: &str, value: Option<&[u8]>) {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
    }

    /// Says why no topic can take the message. Once it is staged it is too late: every try to publish it would fail.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(topic) = self.topic.as_deref().filter(|topic| !is_name_of_a_topic(topic)) {
            return Err(format!(
                "{topic:?} cannot be the name of a topic: that has 1 to 249 letters, digits, dots, underscores and hyphens"
            ));
        }
        match self.partition {
            Some(partition) if partition < 0 => {
                Err(format!("{partition} cannot be the number of a partition"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn clear(&mut self, timestamp: Option<i64>) {
        (self.topic, self.partition, self.timestamp) = (None, None, timestamp);
        self.key.clear();
        self.value.clear();
        self.headers.clear();
    }

    pub(super) fn staged(&self) -> StagedMessage<'_> {
        StagedMessage {
            topic: self.topic.as_deref(),
            partition: self.partition,
            timestamp: self.timestamp.filter(|timestamp| *timestamp >= 0),
            headers: self.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect(),
            key: self.key.get(),
            value: self.value.get(),
        }
    }

    /// Appends the message to a staged file: its length in four bytes, then its fields.
    pub(super) fn append_to(&self, file: &mut Vec<u8>) -> Result<(), String> {
        let begin = file.len();
        file.extend_from_slice(&[0; 4]);
        let mut taken = std::mem::take(file);
        taken = postcard::to_extend(&self.staged(), taken).map_err(|error| error.to_string())?;
        *file = taken;
        let length =
            u32::try_from(file.len() - begin - 4).map_err(|_| "it has more than 4 GiB".to_owned())?;
        file[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }
}

/// The rule of Kafka's brokers.
fn is_name_of_a_topic(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(is_allowed) && !matches!(name, "." | "..")
}

/// A message in a staged file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedMessage<'a> {
    #[serde(borrow)]
    pub(super) topic: Option<&'a str>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
    #[serde(borrow)]
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    #[serde(borrow, serialize_with = "bytes")]
    pub(super) key: Option<&'a [u8]>,
    #[serde(borrow, serialize_with = "bytes")]
    pub(super) value: Option<&'a [u8]>,
}

/// Writes bytes as a whole: as a slice they would be written one by one, in the same form.
fn bytes<S: Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    struct Whole<'a>(&'a [u8]);

    impl Serialize for Whole<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    bytes.map(Whole).serialize(serializer)
}

impl<'a> StagedMessage<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(|error| invalid(error.to_string()))
    }

    /// What it takes in a topic, roughly.
    pub(super) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers.sum::<usize>() + 32
    }
}

/// Reads the next message of a staged file into a buffer; false at the end of the file.
pub(super) fn read_next(file: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    let first = file.read(&mut length[..1])?;
    if first == 0 {
        return Ok(false);
    }
    file.read_exact(&mut length[1..])?;
    let length = u64::from(u32::from_le_bytes(length));
    buffer.clear();
    // Not by its length at once: of a damaged file it may be anything.
    let read = file.by_ref().take(length).read_to_end(buffer)?;
    if read as u64 != length {
        return Err(invalid(format!("a message of {length} bytes is cut off after {read}")));
    }
    Ok(true)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut rest, mut buffer) = (&bytes[..], Vec::new());
            while matches!(read_next(&mut rest, &mut buffer), Ok(true)) {
                drop(StagedMessage::parse(&buffer));
            }
            drop(StagedMessage::parse(&bytes));
        }
    }

    #[test]
    fn a_message_that_no_topic_can_take_is_refused_by_name() {
        let mut message = OutgoingMessage::default();
        message.set_topic(&"x".repeat(249));
        assert_eq!(message.check(), Ok(()));
        for topic in ["", "..", "a\0b", "a b", "ä", &"x".repeat(250)] {
            message.set_topic(topic);
            let error = message.check().unwrap_err();
            assert!(error.starts_with(&format!("{topic:?} cannot be")), "{error}");
        }
        message.clear(None);
        message.set_partition(-1);
        assert_eq!(message.check(), Err("-1 cannot be the number of a partition".to_owned()));
    }

    #[test]
    fn messages_are_read_back_as_they_were_staged() {
        let (mut message, mut file) = (OutgoingMessage::default(), Vec::new());
        message.clear(Some(7));
        message.key().extend_from_slice(b"device-1");
        message.value().extend_from_slice(b"{}");
        message.add_header("trace", Some(b"1"));
        message.add_header("empty", None);
        message.append_to(&mut file).unwrap();
        message.clear(None);
        message.set_topic("other");
        message.set_partition(3);
        message.append_to(&mut file).unwrap();

        let (mut rest, mut buffer) = (&file[..], Vec::new());
        assert!(read_next(&mut rest, &mut buffer).unwrap());
        let first = StagedMessage::parse(&buffer).unwrap();
        assert_eq!(
            (first.key, first.value, first.timestamp),
            (Some(&b"device-1"[..]), Some(&b"{}"[..]), Some(7))
        );
        assert_eq!(first.headers, [("trace", Some(&b"1"[..])), ("empty", None)]);
        assert!(read_next(&mut rest, &mut buffer).unwrap());
        let second = StagedMessage::parse(&buffer).unwrap();
        assert_eq!((second.topic, second.partition), (Some("other"), Some(3)));
        assert_eq!((second.key, second.value, second.timestamp), (None, None, None));
        assert!(!read_next(&mut rest, &mut buffer).unwrap());
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_an_error_or_ends_between_messages() {
        let (mut message, mut file) = (OutgoingMessage::default(), Vec::new());
        message.value().extend_from_slice(b"value");
        message.append_to(&mut file).unwrap();
        let length = file.len();
        message.append_to(&mut file).unwrap();
        for cut in 0..file.len() {
            let (mut rest, mut buffer, mut whole) = (&file[..cut], Vec::new(), 0);
            let end = loop {
                match read_next(&mut rest, &mut buffer) {
                    Ok(true) => whole += 1,
                    Ok(false) => break true,
                    Err(_) => break false,
                }
            };
            assert_eq!((end, whole), (cut % length == 0, cut / length), "cut after {cut} bytes");
        }
    }
}
