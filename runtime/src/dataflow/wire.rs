//! A batch as bytes: how it travels to another process, and in tests between the workers of one.
//!
//! Timely asks a batch for its encoded length and then for the bytes, and neither call can return an error. So the batch is
//! encoded when its length is asked for, and keeps the result. It returns to its sender afterwards, which checks for an
//! error ([`Passage::refused`]). In place of a batch that could not be encoded, a batch without records is sent: timely
//! counts the records that were promised, so that no barrier passes them and no snapshot is completed without them. A batch
//! that cannot be decoded is treated likewise: its receiver finds the reason in place of the records.
//!
//! Types that cannot be sent are refused when the job is planned ([`crate::fingerprint`]). What remains are single values:
//! one that leaves out a field under a condition that no dummy value meets, or one that its type refuses to serialize.

use std::io::Write;
use std::sync::Arc;
use tidegate_connector_api::{Record, RecordId};

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use super::batch::Batch;
use super::passage::Passage;
use crate::data::Data;
use crate::fingerprint::{readable, whole};
use crate::link::DriverHandle;
use crate::step::Step;
use crate::watermark::WatermarkUpdate;
use tidegate_protocol::Error;

/// An exchange, for the message if a batch cannot cross it.
pub(crate) struct Crossing {
    step: Arc<Step>,
    record: &'static str,
    parallelism: usize,
    driver: Arc<DriverHandle>,
}

impl Crossing {
    /// The exchange in front of a step, between `parallelism` workers; a batch that cannot cross it is reported to the
    /// driver.
    pub(crate) fn of<T>(step: &Arc<Step>, parallelism: usize, driver: &Arc<DriverHandle>) -> Self {
        Self { step: step.clone(), record: std::any::type_name::<T>(), parallelism, driver: driver.clone() }
    }

    /// Ends the job if the batch, which timely has returned after sending it, could not be encoded.
    pub(crate) fn check_sent(&self, passage: &Passage) {
        if let Some(why) = passage.refused() {
            self.fail(&format!("cannot be sent to another worker: {why}"));
        }
    }

    /// Ends the job if the batch, which has arrived from another worker, could not be decoded or names a sender that does
    /// not exist. Such a batch is replaced by an empty one.
    pub(crate) fn check_arrived<T>(&self, batch: &mut Batch<T>) {
        let why = match batch.passage.unreadable() {
            Some(why) => why.to_owned(),
            None if batch.is_of_one_of(self.parallelism) => return,
            None => format!("its sender is worker {} of {}", batch.from, self.parallelism),
        };
        *batch = Batch::default();
        self.fail(&format!("was sent to another worker and cannot be read there: {why}"));
    }

    #[cold]
    fn fail(&self, what: &str) {
        let (step, record) = (self.step.name(), readable(self.record));
        self.driver.fail(Error::job(format!(
            "step '{step}', the exchange before it: a record of type {record} {what}. Records that cross to another \
             worker are written and read by their type's 'Serialize' and 'Deserialize'; the docs of tidegate::Data say \
             what cannot cross"
        )));
    }
}

/// In which form the values of a batch are sent.
#[derive(Serialize, Deserialize)]
enum Form {
    /// As postcard writes them.
    Postcard,
    /// As they lie in memory ([`super::abomonated`]).
    Memory,
}

/// What precedes the records.
#[derive(Serialize, Deserialize)]
struct Head {
    form: Form,
    target: u32,
    from: u32,
    update: Option<WatermarkUpdate>,
    /// The number of records.
    count: u32,
}

/// The bytes of a record before its value: its timestamp and its id, in a fixed length. Ids are hashes, for which an encoding
/// of variable length would take more bytes and more time.
const FIXED_BYTES: usize = 16;

/// Bytes of a record for which there is room at first.
const RECORD_BYTES: usize = 64;

/// Appends what postcard writes to a buffer that is already there.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl<T: Data> Batch<T> {
    pub(crate) fn encoded(&self) -> Result<Vec<u8>, String> {
        if let Some(left_out) = self.records.iter().find_map(|record| whole::left_out(&record.value)) {
            return Err(left_out.to_string());
        }
        self.encode(&self.records).map_err(|e| e.to_string())
    }

    fn encode(&self, records: &[Record<T>]) -> postcard::Result<Vec<u8>> {
        let count = u32::try_from(records.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
        let (target, from, update) = (self.target, self.from, self.update);
        let head = |form| Head { form, target, from, update, count };
        let mut bytes = Vec::with_capacity((records.len() + 1) * RECORD_BYTES);
        #[cfg(feature = "abomonation")]
        if let Some(codec) = super::abomonated::codec_of::<T>() {
            postcard::serialize_with_flavor(&head(Form::Memory), Append(&mut bytes))?;
            codec.encode(records, &mut bytes);
            return Ok(bytes);
        }
        postcard::serialize_with_flavor(&head(Form::Postcard), Append(&mut bytes))?;
        for record in records {
            bytes.extend_from_slice(&record.timestamp.to_le_bytes());
            bytes.extend_from_slice(&record.id.to_bits().to_le_bytes());
            postcard::serialize_with_flavor(&record.value, Append(&mut bytes))?;
        }
        Ok(bytes)
    }

    /// The bytes to send: the batch, or in place of one that was refused a batch without records.
    fn bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        match self.passage.sent.get_or_init(|| self.encoded()) {
            Ok(bytes) => bytes.into(),
            Err(_) => self.encode(&[]).unwrap_or_default().into(),
        }
    }

    pub(crate) fn decoded(bytes: &[u8]) -> Result<Self, String> {
        let (head, rest) = postcard::take_from_bytes::<Head>(bytes).map_err(|e| e.to_string())?;
        let records = match head.form {
            Form::Postcard => Self::records(head.count, rest)?,
            Form::Memory => Self::records_in_memory(head.count, rest)?,
        };
        Ok(Self::new(head.target, head.from, head.update, records))
    }

    fn records(count: u32, mut rest: &[u8]) -> Result<Vec<Record<T>>, String> {
        // What the bytes say about themselves is not believed before there are so many.
        let mut records = Vec::with_capacity((count as usize).min(rest.len() / FIXED_BYTES));
        for _ in 0..count {
            let Some((timestamp, id, value)) = fixed(rest) else {
                return Err("there are fewer bytes than records".to_owned());
            };
            let (value, more) = postcard::take_from_bytes(value).map_err(|e| e.to_string())?;
            records.push(Record { timestamp, id: RecordId::from_bits(id), value });
            rest = more;
        }
        if !rest.is_empty() {
            return Err("there are more bytes than records".to_owned());
        }
        Ok(records)
    }

    #[cfg(feature = "abomonation")]
    fn records_in_memory(count: u32, bytes: &[u8]) -> Result<Vec<Record<T>>, String> {
        let codec = super::abomonated::codec_of::<T>();
        codec.ok_or("records of this type are not sent as they lie in memory")?.decode(count, bytes)
    }

    #[cfg(not(feature = "abomonation"))]
    fn records_in_memory(_: u32, _: &[u8]) -> Result<Vec<Record<T>>, String> {
        Err("this program is built without the feature 'abomonation'".to_owned())
    }
}

/// The timestamp and the id of a record, and the bytes of its value with all that follows.
fn fixed(bytes: &[u8]) -> Option<(i64, u64, &[u8])> {
    let (timestamp, rest) = bytes.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    Some((i64::from_le_bytes(*timestamp), u64::from_le_bytes(*id), rest))
}

impl<T: Data> ContainerBytes for Batch<T> {
    fn from_bytes(bytes: Bytes) -> Self {
        let (mut batch, arrived) = match Self::decoded(&bytes) {
            Ok(batch) => (batch, Ok(())),
            Err(why) => (Self::default(), Err(why)),
        };
        batch.passage.arrived = Some(arrived);
        batch
    }

    fn length_in_bytes(&self) -> usize {
        self.bytes().len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        writer.write_all(&self.bytes()).expect("timely's buffer has the length that it has asked for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermark::Watermark;
    use proptest::prelude::*;
    use timely::bytes::arc::BytesMut;

    fn batch<T>(records: impl IntoIterator<Item = T>) -> Batch<T> {
        let records = records
            .into_iter()
            .map(|value| Record { timestamp: -7, id: RecordId::from_bits(u64::MAX), value })
            .collect();
        Batch::new(3, 1, Some(WatermarkUpdate::NextEpoch(Watermark::idle(-5))), records)
    }

    fn bytes_of<T: Data>(batch: &Batch<T>) -> Bytes {
        let length = batch.length_in_bytes();
        let mut bytes = Vec::new();
        batch.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), length);
        BytesMut::from(bytes).extract_to(length)
    }

    #[test]
    fn a_batch_survives_the_wire() {
        let sent = batch(["x".to_owned(), String::new()]);
        let back = Batch::<String>::from_bytes(bytes_of(&sent));
        assert_eq!((back.target, back.from, back.update), (3, 1, sent.update));
        assert_eq!(back.records, sent.records);
        assert!(sent.passage.was_sent() && sent.passage.refused().is_none());
        assert!(back.passage.unreadable().is_none());
        assert_eq!((sent.filled_by(), back.filled_by()), (Some(1), None));
    }

    #[test]
    fn a_value_that_leaves_a_field_out_is_not_sent() {
        fn is_odd(n: &u32) -> bool {
            *n == 4_711
        }
        #[derive(Serialize, Deserialize)]
        struct Odd {
            #[serde(default, skip_serializing_if = "is_odd")]
            n: u32,
            last: u32,
        }
        let sent = batch([Odd { n: 1, last: 2 }, Odd { n: 4_711, last: 3 }]);
        let back = Batch::<Odd>::from_bytes(bytes_of(&sent));
        let why = sent.passage.refused().unwrap();
        assert_eq!(why, "its field 'n' (of Odd) is left out by #[serde(skip_serializing_if)]");
        assert!(back.records.is_empty() && back.passage.unreadable().is_none());
    }

    #[test]
    fn a_value_that_cannot_be_written_or_read_is_reported() {
        let sent = batch([serde_json::json!({"a": 1})]);
        let back = Batch::<serde_json::Value>::from_bytes(bytes_of(&sent));
        assert!(sent.passage.refused().is_none());
        assert!(back.records.is_empty() && back.passage.unreadable().is_some());
        let more = Batch::<()>::from_bytes(bytes_of(&batch([1u64])));
        assert_eq!(more.passage.unreadable(), Some("there are more bytes than records"));
        let sent = batch([Refuses]);
        assert!(Batch::<Refuses>::from_bytes(bytes_of(&sent)).records.is_empty());
        assert!(sent.passage.refused().is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_batch_or_an_error(
            text in ".{0,20}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            more in prop::collection::vec(any::<u8>(), 0..20),
            all in any::<bool>(),
        ) {
            let mut bytes = if all { Vec::new() } else { bytes_of(&batch([(text, vec![7u64])])).to_vec() };
            for (at, byte) in changes.iter().filter(|_| !all) {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.extend(more);
            let length = bytes.len();
            let back = Batch::<(String, Vec<u64>)>::from_bytes(BytesMut::from(bytes).extract_to(length));
            prop_assert!(back.passage.unreadable().is_none() || back.records.is_empty());
            // The receiver looks up the sender by that number.
            prop_assert_eq!(back.is_of_one_of(2), back.from < 2);
        }
    }

    #[derive(Deserialize)]
    struct Refuses;

    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not this one"))
        }
    }
}
