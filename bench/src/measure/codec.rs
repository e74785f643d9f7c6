//! The codec of batches beside those that were not taken: what a record costs on its way to another process.

use std::hint::black_box;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate::internals::{self, Sent};

use crate::Result;
use crate::process::cpu_of_this_thread;
use crate::setting::Setting;
use crate::table::Table;

/// Records of a batch: as many as the engine sends at a time.
const RECORDS: u64 = 256;
/// Batches that are encoded, and decoded, between two looks at the clock.
const BATCHES: u32 = 2_000;

/// A record with texts.
#[derive(Clone, Serialize, Deserialize)]
struct Texts {
    device: String,
    site: String,
    kind: String,
    value: f64,
}

/// A record of numbers.
#[derive(Clone, Serialize, Deserialize)]
struct Numbers {
    device: u32,
    at: i64,
    value: f64,
    mean: f64,
    count: u64,
}

fn texts(i: u64) -> Texts {
    let device = format!("device-{:06}", i * 977 % 10_000);
    Texts { device, site: format!("plant-{}", i % 7), kind: "temperature".to_owned(), value: 71.5 + i as f64 }
}

fn numbers(i: u64) -> Numbers {
    let at = 1_700_000_000_000 + i as i64;
    Numbers {
        device: i as u32 * 977,
        at,
        value: 0.1 * i as f64,
        mean: 1.0 / (i as f64 + 1.0),
        count: i << 20,
    }
}

/// Encodes and decodes the same batches by every codec in turn, and takes the least of each.
pub fn take(setting: &Setting) -> Result<Table> {
    let title = format!("The codec of batches, {RECORDS} records a batch");
    let head =
        ["records", "codec", "M records/CPU s: encode", "x", "decode", "x", "both", "x", "bytes a record"];
    let mut table = Table::new(title, &head);
    let rounds = setting.options.rounds.max(1);
    let all_texts = codecs(texts);
    let all_numbers = codecs(numbers);
    #[cfg(feature = "abomonation")]
    let (all_texts, all_numbers) =
        (with(all_texts, in_memory::codec(texts)), with(all_numbers, in_memory::codec(numbers)));
    rows(&mut table, "texts", &all_texts, rounds)?;
    rows(&mut table, "numbers", &all_numbers, rounds)?;
    table.note("x: as a multiple of what the engine does by default. Texts: three strings and a number; numbers: five.");
    Ok(table)
}

/// A codec with a batch of its own.
struct Codec {
    name: &'static str,
    encode: Box<dyn Fn() -> Vec<u8>>,
    /// The number of records.
    decode: Box<dyn Fn(&[u8]) -> usize>,
}

#[cfg(feature = "abomonation")]
fn with(mut codecs: Vec<Codec>, more: Codec) -> Vec<Codec> {
    codecs.push(more);
    codecs
}

/// The engine's, and postcard for the whole record.
fn codecs<T>(record: fn(u64) -> T) -> Vec<Codec>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    let of_engine = engine("default", record);
    let sent = internals::batch_of((0..RECORDS).map(record).collect());
    let postcard = Codec {
        name: "postcard",
        encode: Box::new(move || postcard_encode(&sent)),
        decode: Box::new(|bytes| postcard_decode::<T>(bytes).map_or(0, |records| records.len())),
    };
    vec![of_engine, postcard]
}

fn engine<T: Serialize + DeserializeOwned + Send + 'static>(
    name: &'static str,
    record: fn(u64) -> T,
) -> Codec {
    let sent = internals::batch_of((0..RECORDS).map(record).collect());
    Codec {
        name,
        encode: Box::new(move || sent.encode()),
        decode: Box::new(|bytes| internals::decode_batch::<T>(bytes).map_or(0, |records| records.len())),
    }
}

/// A record as postcard writes a tuple of its timestamp, its id and its value.
fn postcard_encode<T: Serialize + DeserializeOwned + Send + 'static>(sent: &Sent<T>) -> Vec<u8> {
    let records = sent.records().iter();
    let records: Vec<_> =
        records.map(|record| (record.timestamp, record.id.to_bits(), &record.value)).collect();
    postcard::to_extend(&records, Vec::with_capacity(records.len() * 64)).unwrap_or_default()
}

fn postcard_decode<T: DeserializeOwned>(bytes: &[u8]) -> postcard::Result<Vec<(i64, u64, T)>> {
    postcard::from_bytes(bytes)
}

fn rows(table: &mut Table, records: &str, codecs: &[Codec], rounds: u32) -> Result<()> {
    let bytes: Vec<_> = codecs.iter().map(|codec| (codec.encode)()).collect();
    let mut best = vec![[Duration::MAX; 2]; codecs.len()];
    for _ in 0..rounds {
        for ((codec, bytes), best) in codecs.iter().zip(&bytes).zip(&mut best) {
            if (codec.decode)(bytes) != RECORDS as usize {
                return Err(format!("{} does not decode what it has encoded", codec.name));
            }
            best[0] = best[0].min(cpu(|| drop(black_box((codec.encode)())))?);
            best[1] = best[1].min(cpu(|| _ = black_box((codec.decode)(bytes)))?);
        }
    }
    let speed = |[encode, decode]: [Duration; 2]| {
        [encode, decode, encode + decode]
            .map(|time| f64::from(BATCHES) * RECORDS as f64 / time.as_secs_f64() / 1e6)
    };
    let first = speed(best[0]);
    for ((codec, bytes), best) in codecs.iter().zip(&bytes).zip(best) {
        let figures = speed(best).into_iter().zip(first);
        let figures =
            figures.flat_map(|(speed, first)| [format!("{speed:.1}"), format!("{:.2}", speed / first)]);
        let length = format!("{:.1}", bytes.len() as f64 / RECORDS as f64);
        table.row([records.to_owned(), codec.name.to_owned()].into_iter().chain(figures).chain([length]));
    }
    Ok(())
}

/// The CPU time of this thread for all batches.
fn cpu(mut of_one: impl FnMut()) -> Result<Duration> {
    let before = cpu_of_this_thread()?;
    (0..BATCHES).for_each(|_| of_one());
    Ok(cpu_of_this_thread()?.saturating_sub(before).max(Duration::from_nanos(1)))
}

/// The same records as they lie in memory.
#[cfg(feature = "abomonation")]
#[allow(deprecated, reason = "the macro says what the derive hides: which fields are behind pointers")]
mod in_memory {
    use super::*;
    use abomonation::Abomonation;

    abomonation::unsafe_abomonate!(Texts: device, site, kind);
    abomonation::unsafe_abomonate!(Numbers);

    /// A type of its own: that of the others is sent as serde writes it.
    #[derive(Clone, Serialize, Deserialize)]
    struct InMemory<T>(T);

    impl<T: Abomonation> Abomonation for InMemory<T> {
        unsafe fn entomb<W: std::io::Write>(&self, write: &mut W) -> std::io::Result<()> {
            // SAFETY: as the caller has promised.
            unsafe { self.0.entomb(write) }
        }

        unsafe fn exhume<'b>(&mut self, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
            // SAFETY: as the caller has promised.
            unsafe { self.0.exhume(bytes) }
        }

        fn extent(&self) -> usize {
            self.0.extent()
        }
    }

    pub(super) fn codec<T>(record: fn(u64) -> T) -> Codec
    where
        T: Abomonation + Clone + Serialize + DeserializeOwned + Send + 'static,
    {
        // SAFETY: numbers, and texts that are named above; all bytes are of this process.
        unsafe { internals::abomonate::<InMemory<T>>() };
        let sent = internals::batch_of((0..RECORDS).map(|i| InMemory(record(i))).collect());
        Codec {
            name: "abomonation",
            encode: Box::new(move || sent.encode()),
            decode: Box::new(|bytes| {
                internals::decode_batch::<InMemory<T>>(bytes).map_or(0, |records| records.len())
            }),
        }
    }
}
