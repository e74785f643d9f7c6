//! State of any shape is what it was, wherever it has been: left to the store for want of memory, in a snapshot, on another
//! worker.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde::{Deserialize, Serialize};
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{Context, KeyedProcess, Result};

use crate::check;

/// A value of every type that serde tells apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum Value {
    #[default]
    Unit,
    Bool(bool),
    Small(i8),
    Wide(i128, u128),
    Single(f32),
    Double(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Maybe(Option<Box<Value>>),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    ByTuple(BTreeMap<(i64, bool), Option<()>>),
    Pair(Box<(Value, Value)>),
    Named {
        number: u64,
        other: Box<Value>,
    },
    Nothing {},
    Units(Vec<()>),
}

/// A value, described so that a failure can be read.
#[derive(Clone, Debug)]
enum Described {
    Value(Value),
    /// A text, or a list, that takes so many bytes.
    LongText(char, usize),
    LongList(usize),
}

impl Described {
    fn value(&self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::LongText(of, bytes) => Value::Text(of.to_string().repeat(bytes / of.len_utf8())),
            Self::LongList(bytes) => Value::List(vec![Value::Unit; *bytes]),
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let doubles = [f64::NAN, -f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE / 2.0, f64::MAX];
    let leaf = prop_oneof![
        Just(Value::Unit),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::Small),
        any::<(i128, u128)>().prop_map(|(signed, unsigned)| Value::Wide(signed, unsigned)),
        any::<u32>().prop_map(|bits| Value::Single(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
        select(doubles.to_vec()).prop_map(Value::Double),
        any::<char>().prop_map(Value::Char),
        any::<String>().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        Just(Value::Nothing {}),
        (0usize..300).prop_map(|count| Value::Units(vec![(); count])),
        prop::collection::btree_map(any::<(i64, bool)>(), any::<Option<()>>(), 0..4).prop_map(Value::ByTuple),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::option::of(inner.clone().prop_map(Box::new)).prop_map(Value::Maybe),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(any::<String>(), inner.clone(), 0..4).prop_map(Value::Map),
            (inner.clone(), inner.clone()).prop_map(|pair| Value::Pair(Box::new(pair))),
            (any::<u64>(), inner).prop_map(|(number, other)| Value::Named { number, other: Box::new(other) }),
        ]
    })
}

fn described() -> impl Strategy<Value = Described> {
    prop_oneof![
        20 => value().prop_map(Described::Value),
        1 => (any::<char>(), 0usize..1_100_000).prop_map(|(of, bytes)| Described::LongText(of, bytes)),
        1 => (0usize..1_100_000).prop_map(Described::LongList),
    ]
}

/// What is done to the state of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step<V> {
    Put(V),
    Push(V),
    Clear,
    Look,
}

fn step() -> impl Strategy<Value = Step<Described>> {
    prop_oneof![
        4 => described().prop_map(Step::Put),
        2 => described().prop_map(Step::Push),
        1 => Just(Step::Clear),
        3 => Just(Step::Look),
    ]
}

/// A key, the number of the step, the step.
type Record = (String, u32, Step<Value>);

/// Does to a state what a step says. Returns what there is to see, as bytes, because NaN is not equal to itself.
fn apply(state: &mut Option<Value>, step: Step<Value>) -> Option<Option<Vec<u8>>> {
    match step {
        Step::Put(value) => *state = Some(value),
        Step::Push(value) => match state {
            Some(Value::List(list)) => list.push(value),
            _ => *state = Some(Value::List(vec![state.take().unwrap_or_default(), value])),
        },
        Step::Clear => *state = None,
        Step::Look => return Some(state.as_ref().map(|value| postcard::to_stdvec(value).unwrap())),
    }
    None
}

struct Keeper;

impl KeyedProcess for Keeper {
    type Key = String;
    type In = Record;
    type State = Value;
    type Out = (String, u32, Option<Vec<u8>>);
    type Side = ();

    fn on_record(&mut self, (key, number, step): Record, cx: &mut Context<'_, Self>) -> Result<()> {
        let mut state = cx.state.get().cloned();
        let seen = apply(&mut state, step);
        match (seen, state) {
            (Some(seen), _) => cx.out.emit((key, number, seen)),
            (None, Some(value)) => *cx.state.get_mut() = value,
            (None, None) => cx.state.clear(),
        }
        Ok(())
    }
}

/// The steps of a run with so many workers, which ends by a stop or by a crash.
#[derive(Clone, Debug)]
struct Round {
    steps: Vec<(String, Step<Described>)>,
    workers: usize,
    stop: bool,
}

prop_compose! {
    fn round()(
        // Few keys, one of them empty and one long, so that most have a state to look at.
        steps in prop::collection::vec((prop_oneof![8 => "[a-f]?", 1 => Just("\u{10ffff}\0".repeat(500))], step()), 0..60),
        workers in 1usize..4,
        stop: bool,
    ) -> Round {
        Round { steps, workers, stop }
    }
}

#[test]
fn state_of_any_shape_is_kept_as_it_is() {
    let cases = (prop::collection::vec(round(), 1..4), any::<bool>(), prop_oneof![Just(0), Just(100_000)]);
    check::holds("state_of_any_shape_is_kept_as_it_is", 24, cases, |(rounds, over_the_wire, memory)| {
        let (source, out) = (TestSource::<Record>::new(2), VecSink::new());
        let (from, to) = (source.clone(), out.clone());
        let job = TestJob::new(move |job| {
            let records = job.source("records", from.clone());
            records.key_by(|record: &Record| &record.0).process("keeper", Keeper).sink("out", to.clone());
            Ok(())
        });
        let job = job.memory(memory);
        let mut job = if over_the_wire { job.over_the_wire() } else { job };
        let (mut states, mut expected, mut number) =
            (BTreeMap::<String, Option<Value>>::new(), Vec::new(), 0);
        for Round { steps, workers, stop } in rounds {
            job = job.parallelism(workers);
            let running = job.start();
            let looks = states.keys().map(|key| (key.clone(), Step::Look)).collect::<Vec<_>>();
            for (key, step) in looks.into_iter().chain(steps) {
                number += 1;
                let step = expand(step);
                let seen = apply(states.entry(key.clone()).or_default(), step.clone());
                expected.extend(seen.map(|seen| (key.clone(), number, seen)));
                // The steps of a key are in one partition, which keeps their order.
                source.push(key.len() % 2, (key, number, step));
            }
            running.checkpoint();
            if stop { drop(running.stop().unwrap()) } else { running.kill() }
        }
        source.end();
        job.run().unwrap();
        let (mut found, mut expected) = (out.records(), expected);
        found.sort();
        expected.sort();
        // Not by prop_assert_eq: what differs may be a megabyte.
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!(found == expected, "key {:?}, step {}", found.0, found.1);
        }
        prop_assert_eq!(found.len(), expected.len());
        Ok(())
    });
}

fn expand(step: Step<Described>) -> Step<Value> {
    match step {
        Step::Put(value) => Step::Put(value.value()),
        Step::Push(value) => Step::Push(value.value()),
        Step::Clear => Step::Clear,
        Step::Look => Step::Look,
    }
}
