//! Records that cross between workers as bytes come out as what they went in, or their type is refused before the start.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use tidegate::aggregates::Count;
use tidegate::testing::{TestJob, TestSource, VecSink, VecSource, collect};
use tidegate::{BroadcastContext, BroadcastProcess, Context, Data, Either, KeyedProcess, Result, Stream};

use crate::events::{Event, FAR};

/// Puts out what comes in.
struct Pass<T>(PhantomData<T>);

impl<T: Data> KeyedProcess for Pass<T> {
    type Key = u8;
    type In = T;
    type State = ();
    type Out = T;
    type Side = ();

    fn on_record(&mut self, record: T, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(record);
        Ok(())
    }
}

/// Sends records around: in turns, then by key; with another worker and to itself. They come back in their order.
fn cross<T: Data + Clone + Debug>(workers: usize, records: impl IntoIterator<Item = T>) -> Vec<T> {
    let (source, out) = (VecSource::of((0u32..).zip(records)), VecSink::new());
    let sink = out.clone();
    let job = TestJob::new(move |job| {
        let records = job.source("records", source.clone());
        records
            .rebalance()
            .key_by_value(|_| 0u8)
            .process("pass", Pass(PhantomData))
            .sink("out", sink.clone());
        Ok(())
    });
    job.parallelism(workers).no_interval().over_the_wire().run().unwrap();
    let mut records = out.records();
    records.sort_by_key(|(number, _)| *number);
    records.into_iter().map(|(_, record)| record).collect()
}

fn crosses<T: Data + Clone + Debug + PartialEq>(records: impl IntoIterator<Item = T>) {
    let records: Vec<T> = records.into_iter().collect();
    for workers in 1..=2 {
        assert_eq!(cross(workers, records.clone()), records, "{workers} workers");
    }
}

macro_rules! ends_of {
    ($($number:ty)*) => {
        $(crosses([<$number>::MIN, <$number>::MIN + 1, 0 as $number, 1 as $number, <$number>::MAX - 1, <$number>::MAX]);)*
    };
}

#[test]
fn whole_numbers_of_every_width_cross() {
    ends_of! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }
    crosses([NonZeroU32::MIN, NonZeroU32::MAX]);
}

#[test]
fn floating_point_numbers_cross_bit_by_bit() {
    let odd_nan = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
    let numbers =
        [0.0, -0.0, f64::NAN, -f64::NAN, odd_nan, f64::INFINITY, f64::MIN, f64::MIN_POSITIVE, 5e-324, 0.1];
    let bits = |numbers: &[f64]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&cross(2, numbers)), bits(&numbers));
    let numbers = [0.0, -0.0, f32::NAN, -f32::NAN, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45];
    let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&cross(2, numbers)), bits(&numbers));
}

#[test]
fn texts_and_single_values_cross() {
    crosses([true, false]);
    crosses(['\0', 'a', 'ß', '\u{10FFFF}']);
    crosses(["", "tide\0gate", "Grüße, 世界"].map(str::to_owned));
    crosses(["", "boxed"].map(Box::<str>::from));
    crosses(["", "shared"].map(Arc::<str>::from));
    crosses([Cow::Borrowed("lent"), Cow::Owned("own".to_owned())]);
    crosses([()]);
    crosses([Duration::ZERO, Duration::MAX, Duration::from_nanos(1)]);
    crosses([IpAddr::V4(Ipv4Addr::BROADCAST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    crosses([SocketAddr::from(([127, 0, 0, 1], 80))]);
}

#[test]
fn collections_cross() {
    crosses([None, Some(None), Some(Some(7u8))]);
    crosses([vec![], vec![0u8; 3], (0..=255).collect(), vec![7; 100_000]]);
    crosses([vec![vec!["a".to_owned()], vec![]]]);
    crosses(
        [(1u8, -2i64, "three".to_owned(), 4.5f32, ('6', [7u16; 40]))]
            .map(|(a, b, c, d, e)| (a, b, c, d, e.0)),
    );
    crosses([[0u64; 32], [u64::MAX; 32]]);
    crosses([[String::new(), "b".to_owned()]]);
    crosses([BTreeMap::new(), BTreeMap::from([("a".to_owned(), vec![1u8]), ("b".to_owned(), vec![])])]);
    crosses([HashMap::from([((1u8, 'a'), 0.5f64), ((2, 'b'), 1.5)]), HashMap::new()]);
    crosses([BTreeSet::from([3i8, -3])]);
    crosses([HashSet::from(["x".to_owned()])]);
    crosses([VecDeque::from([1u128, 2])]);
    crosses([Box::new([1u8, 2].to_vec())]);
    crosses([Ok::<u8, String>(1), Err("no".to_owned())]);
    crosses([Either::<u8, String>::Left(1), Either::Right("r".to_owned())]);
    crosses([1u64..9, 0..0]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Id(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    id: Id,
    nothing: Nothing,
    kind: Kind,
    left: Option<Box<Tree>>,
    children: Vec<Tree>,
    by_name: BTreeMap<String, Kind>,
    #[serde(skip)]
    skipped: u8,
    #[serde(rename = "new", alias = "former", default)]
    old: [u16; 3],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    Newtype(u64),
    Tuple(i8, String),
    Struct { from: Option<char>, to: f64 },
    Empty {},
    Nested(Box<Kind>),
}

#[test]
fn structs_and_enums_cross() {
    crosses([Id(u64::MAX)]);
    crosses([Nothing]);
    let kinds = [
        Kind::Unit,
        Kind::Newtype(u64::MAX),
        Kind::Tuple(-1, "t".to_owned()),
        Kind::Struct { from: Some('x'), to: -0.5 },
        Kind::Empty {},
        Kind::Nested(Box::new(Kind::Newtype(0))),
    ];
    crosses(kinds.clone());
    let leaf = |kind| Tree {
        id: Id(1),
        nothing: Nothing,
        kind,
        left: None,
        children: vec![],
        by_name: BTreeMap::new(),
        skipped: 0,
        old: [1, 2, 3],
    };
    let by_name = kinds.iter().map(|kind| (format!("{kind:?}"), kind.clone())).collect();
    let children = kinds.into_iter().map(leaf).collect();
    let left = Some(Box::new(leaf(Kind::Unit)));
    crosses([Tree { left, children, by_name, ..leaf(Kind::Empty {}) }]);
}

#[test]
fn ten_thousand_records_go_to_every_worker() {
    let (source, out) = (VecSource::of(0..10_000u32), VecSink::new());
    let sink = out.clone();
    let job = TestJob::new(move |job| {
        job.source("numbers", source.clone()).broadcast().sink("out", sink.clone());
        Ok(())
    });
    job.parallelism(3).over_the_wire().run().unwrap();
    assert_eq!(out.sorted(), (0..30_000).map(|n| n / 3).collect::<Vec<u32>>());
}

#[test]
fn a_job_is_killed_and_goes_on_over_the_wire() {
    let (source, out) = (TestSource::new(2), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone());
        numbers.key_by_value(|n: &u64| n % 7).aggregate("count", Count).sink("out", to.clone());
        Ok(())
    });
    let mut job = job.over_the_wire();
    for round in 0..4u64 {
        job = job.parallelism(1 + round as usize % 3);
        let running = job.start();
        source.extend(0, round * 1_000..round * 1_000 + 500);
        source.extend(1, round * 1_000 + 500..round * 1_000 + 1_000);
        running.checkpoint();
        source.push(0, 4_000 + round);
        running.kill();
    }
    source.end();
    job.run().unwrap();
    let expected = (0..7u64)
        .flat_map(|key| (1..=(0..4_004).filter(|n| n % 7 == key).count() as u64).map(move |n| (key, n)));
    assert_eq!(out.sorted(), expected.collect::<Vec<_>>());
}

/// Types that cannot cross, each with what the message says of it.
mod refused {
    use super::*;

    #[derive(Clone, Serialize, Deserialize)]
    pub(super) struct Flat {
        pub(super) id: u32,
        #[serde(flatten)]
        pub(super) rest: BTreeMap<String, u32>,
    }

    #[derive(Clone, Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum Untagged {
        A(u8),
    }

    #[derive(Clone, Serialize, Deserialize)]
    #[serde(tag = "t")]
    pub(super) enum Tagged {
        A { x: u8 },
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub(super) struct Skips {
        pub(super) id: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) note: Option<u32>,
    }
}
use refused::{Flat, Skips, Tagged, Untagged};

/// The message with which a job is refused; nothing of its input is read.
fn refusal<T: Clone + Send + 'static, U: Clone + Send + 'static>(
    record: T,
    steps: impl Fn(Stream<T>) -> Stream<U> + Send + Sync + 'static,
) -> String {
    let source = VecSource::of([record]);
    let read = |_: &T| panic!("the job has been started");
    let refused = collect(move |job| Ok(steps(job.source("records", source.clone()).inspect(read))));
    refused.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_type_that_cannot_cross_is_refused_before_the_start() {
    fn check<T: Data + Clone>(record: T, name: &str, why: &str) {
        let text = refusal(record, |s| s.rebalance().named("spread"));
        let start = format!("step 'spread': a value of type {name} (");
        assert!(text.starts_with(&start) && text.contains("another worker") && text.contains(why), "{text}");
    }
    let asks = "asks for the type of the value";
    check(serde_json::json!({"a": 1}), "Value", asks);
    check(vec![Some(serde_json::Value::Null)], "Vec<Option<Value>>", asks);
    check(Flat { id: 1, rest: BTreeMap::new() }, "Flat", asks);
    check(Untagged::A(1), "Untagged", asks);
    check(Tagged::A { x: 1 }, "Tagged", asks);
    check(Skips { id: 1, note: None }, "Skips", "its field 'note' (of Skips) is left out");
    check((1u8, Some(Skips { id: 1, note: Some(1) })), "(u8, Option<Skips>)", "its field 'note' (of Skips)");
}

struct Ignore;

impl BroadcastProcess for Ignore {
    type Key = u8;
    type In = Event;
    type Broadcast = Skips;
    type State = ();
    type Shared = ();
    type Out = ();
    type Side = ();

    fn on_record(&mut self, _: Event, (): &(), _: &mut BroadcastContext<'_, Self>) -> Result<()> {
        Ok(())
    }

    fn on_broadcast(&mut self, _: Skips, (): &mut ()) -> Result<()> {
        Ok(())
    }
}

#[test]
fn every_exchange_refuses() {
    let skips = || Skips { id: 1, note: Some(1) };
    let named = |step: &str, text: String| {
        assert!(text.starts_with(&format!("step '{step}': a value of type ")), "{text}");
        assert!(text.contains("its field 'note' (of Skips) is left out"), "{text}");
    };
    named("rebalance-1", refusal(skips(), |s| s.rebalance()));
    named("broadcast-1", refusal(skips(), |s| s.broadcast()));
    named("count", refusal(skips(), |s| s.key_by(|r| &r.id).aggregate("count", Count)));
    named("pass", refusal(skips(), |s| s.key_by_value(|_| 0u8).process("pass", Pass(PhantomData))));
    let windows = || tidegate::Tumbling::of_processing_time(Duration::from_secs(1));
    named(
        "count",
        refusal(skips(), move |s| s.key_by(|r| &r.id).window(windows()).aggregate("count", Count)),
    );
    named(
        "pass",
        refusal(skips(), |s| {
            let other = s.clone().map(|r| r.id).key_by_value(|_| 0u8);
            s.key_by_value(|_| 0u8).connect(other).process("pass", Pass(PhantomData))
        }),
    );
    named(
        "ignore",
        refusal(skips(), |s| {
            let events = s.clone().map(|_| (0u32, FAR, 0i64)).key_by_value(|_| 0u8);
            events.connect_broadcast(s).process("ignore", Ignore)
        }),
    );
    // What stays on its worker may be of any type.
    collect(|job| {
        let skips = job.source("a", VecSource::of([Skips { id: 1, note: None }]));
        Ok(skips.union(job.source("b", VecSource::of([Skips { id: 2, note: None }]))).map(|r| r.id))
    })
    .unwrap();
}

/// Leaves its field out for a number that no dummy is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Odd {
    #[serde(default, skip_serializing_if = "is_odd")]
    n: u32,
}

fn is_odd(n: &u32) -> bool {
    *n == 4_711
}

/// Is written whatever it is, and read only if it is small.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Small(u32);

impl<'de> Deserialize<'de> for Small {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u32::deserialize(deserializer)?;
        if n < 100 { Ok(Self(n)) } else { Err(serde::de::Error::custom("too large")) }
    }
}

/// Runs a job with a good record, then with a bad one; the message that it ends with.
fn fails<T: Data + Clone + Debug + PartialEq>(workers: usize, good: T, bad: T) -> String {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let records = job.source("records", from.clone());
        records.key_by_value(|_| 0u8).process("pass", Pass(PhantomData)).sink("out", to.clone());
        Ok(())
    });
    let job = job.parallelism(workers).over_the_wire();
    let running = job.start();
    source.push(0, good.clone());
    running.checkpoint();
    source.push(0, bad);
    source.end();
    let text = running.wait().unwrap_err().to_string();
    assert_eq!(out.records(), [good], "something of the failed epoch was published");
    text
}

#[test]
fn a_value_that_cannot_cross_ends_the_job_with_the_step() {
    for workers in 1..=2 {
        let text = fails(workers, Odd { n: 1 }, Odd { n: 4_711 });
        let start = "step 'pass', the exchange before it: a record of type Odd cannot be sent to another worker: its field \
                     'n' (of Odd) is left out by #[serde(skip_serializing_if)]";
        assert!(text.starts_with(start), "{text}");
        let text = fails(workers, Small(1), Small(100));
        let start = "step 'pass', the exchange before it: a record of type Small was sent to another worker and cannot be \
                     read there: ";
        assert!(text.starts_with(start), "{text}");
    }
}
