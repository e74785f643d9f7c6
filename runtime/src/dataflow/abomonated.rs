//! Records as they lie in memory, for types whose author has asked for it (the feature `abomonation`, off by default).
//!
//! A batch of such a type has for every record its timestamp and id, then its value: the bytes of the value itself, and behind them
//! those of its texts. Every value is at a multiple of its type's alignment. The receiver copies all of it to memory that is
//! aligned, puts the addresses of the texts in their place, and clones the values out of it.
//!
//! Neither check nor proof is possible here: bytes that were not written by the same program, or were changed on their way,
//! are undefined behaviour. So [`register`] is unsafe. The crate `abomonation` is not maintained, and has a known defect
//! (RUSTSEC-2021-0120): it reads the bytes of a value that it may not read, padding between fields among them.
//!
//! Not here: which batches are sent so ([`super::wire`], which asks for the codec of a type and says so in front of the
//! records).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use abomonation::Abomonation;
use tidegate_connector_api::{Record, RecordId};

/// The bytes of a record in front of its value: its timestamp and its id.
const FIXED_BYTES: usize = 16;

/// The alignment of the memory in which values are read; that of no type is greater which can be registered.
const ALIGNMENT: usize = align_of::<u128>();

/// How records of a type are written and read.
pub(crate) struct Codec<T> {
    write: fn(&T, &mut Vec<u8>) -> bool,
    /// The value at the beginning, and the number of its bytes.
    read: fn(&mut [u8]) -> Option<(T, usize)>,
}

type Codecs = RwLock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>;

/// Timely decodes a batch without any context, so these are those of the whole process.
fn codecs() -> &'static Codecs {
    static CODECS: OnceLock<Codecs> = OnceLock::new();
    CODECS.get_or_init(Codecs::default)
}

/// From now on batches of this type are sent as they lie in memory.
///
/// # Safety
/// What [`Job::abomonate`](crate::Job::abomonate) requires.
pub(crate) unsafe fn register<T: Abomonation + Clone + 'static>() {
    const { assert!(align_of::<T>() <= ALIGNMENT, "its alignment is too great") };
    let codec: Arc<dyn Any + Send + Sync> = Arc::new(Codec::<T> { write, read });
    codecs().write().unwrap_or_else(PoisonError::into_inner).insert(TypeId::of::<T>(), codec);
}

/// The codec of a type that was registered.
pub(crate) fn codec_of<T: 'static>() -> Option<Arc<Codec<T>>> {
    let codec = codecs().read().unwrap_or_else(PoisonError::into_inner).get(&TypeId::of::<T>())?.clone();
    codec.downcast().ok()
}

fn write<T: Abomonation>(value: &T, bytes: &mut Vec<u8>) -> bool {
    // SAFETY: the author of the type has promised that its bytes may be read (`register`).
    unsafe { abomonation::encode(value, bytes) }.is_ok()
}

fn read<T: Abomonation + Clone>(bytes: &mut [u8]) -> Option<(T, usize)> {
    let all = bytes.len();
    // SAFETY: the bytes are aligned for T, and were written by `write` in a process of the same program (`register`).
    let (value, rest) = unsafe { abomonation::decode::<T>(bytes) }?;
    Some((value.clone(), all - rest.len()))
}

impl<T> Codec<T> {
    /// Where the value of a record begins that follows so many bytes.
    fn begin(at: usize) -> usize {
        (at + FIXED_BYTES).next_multiple_of(align_of::<T>())
    }

    /// Appends the bytes of records. A value that cannot be written is left out with all that follow, so that the receiver finds fewer
    /// records than were announced.
    pub(crate) fn encode(&self, records: &[Record<T>], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        for record in records {
            let begin = start + Self::begin(bytes.len() - start);
            bytes.extend_from_slice(&record.timestamp.to_le_bytes());
            bytes.extend_from_slice(&record.id.to_bits().to_le_bytes());
            bytes.resize(begin, 0);
            if !(self.write)(&record.value, bytes) {
                break;
            }
        }
    }

    /// The records of bytes that [`Codec::encode`] has written.
    pub(crate) fn decode(&self, count: u32, bytes: &[u8]) -> Result<Vec<Record<T>>, String> {
        let mut memory = Aligned::copy_of(bytes);
        let memory = memory.bytes(bytes.len());
        let mut records = Vec::with_capacity((count as usize).min(bytes.len() / FIXED_BYTES));
        let mut at = 0;
        for _ in 0..count {
            let begin = Self::begin(at);
            let fixed = memory.get(at..).and_then(fixed).filter(|_| begin <= memory.len());
            let (timestamp, id) = fixed.ok_or("there are fewer bytes than records")?;
            let (value, length) = (self.read)(&mut memory[begin..]).ok_or("a value is cut off")?;
            records.push(Record { timestamp, id: RecordId::from_bits(id), value });
            at = begin + length;
        }
        if at != memory.len() {
            return Err("there are more bytes than records".to_owned());
        }
        Ok(records)
    }
}

/// The timestamp and the id of a record.
fn fixed(bytes: &[u8]) -> Option<(i64, u64)> {
    let (timestamp, rest) = bytes.split_first_chunk()?;
    Some((i64::from_le_bytes(*timestamp), u64::from_le_bytes(*rest.first_chunk()?)))
}

/// Memory in which values of all types can be read.
struct Aligned(Vec<u128>);

impl Aligned {
    fn copy_of(bytes: &[u8]) -> Self {
        let mut this = Self(vec![0; bytes.len().div_ceil(ALIGNMENT)]);
        this.bytes(bytes.len()).copy_from_slice(bytes);
        this
    }

    /// The first `length` bytes.
    fn bytes(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.0.len() * ALIGNMENT, "there are so many bytes");
        // SAFETY: they are initialized, any bytes are numbers, and the slice borrows all of them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), length) }
    }
}

#[cfg(test)]
#[allow(deprecated, reason = "the macro says what the derive hides: which fields are behind pointers")]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Reading {
        device: String,
        value: f64,
        wide: u128,
        note: Option<String>,
    }

    abomonation::unsafe_abomonate!(Reading: device, note);

    fn records() -> Vec<Record<Reading>> {
        let reading = |i: usize| Reading {
            device: "x".repeat(i),
            value: i as f64,
            wide: u128::MAX - i as u128,
            note: i.is_multiple_of(2).then(|| "even".to_owned()),
        };
        let record = |i| Record { timestamp: -7, id: RecordId::from_bits(i as u64), value: reading(i) };
        (0..20).map(record).collect()
    }

    #[test]
    fn records_come_back_and_what_is_cut_off_is_refused() {
        assert!(codec_of::<Reading>().is_none());
        // SAFETY: numbers, and texts behind pointers; the bytes below are of this program.
        unsafe { register::<Reading>() };
        let codec = codec_of::<Reading>().expect("it is registered");
        let mut bytes = Vec::new();
        codec.encode(&records(), &mut bytes);
        assert_eq!(codec.decode(20, &bytes), Ok(records()));
        assert_eq!(codec.decode(0, &[]), Ok(Vec::new()));
        assert_eq!(codec.decode(19, &bytes).unwrap_err(), "there are more bytes than records");
        for length in 0..bytes.len() {
            assert!(codec.decode(20, &bytes[..length]).is_err(), "{length}");
        }
    }
}
