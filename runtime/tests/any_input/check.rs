//! Runs a property, and says how to run a failure again. `tidegate-connectors` uses this file too.
//!
//! `PROPTEST_CASES` sets the number of cases of every property, for a long run; `PROPTEST_RNG_SEED` the seed, which is
//! another one every time without it. Nothing is written into the source tree: the seed in the message is the record.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

/// Tries `property` with values of `strategy`. Its name is that of the test, for the command in the message.
///
/// # Panics
/// If a value is found for which the property does not hold.
pub(crate) fn holds<S>(
    name: &str,
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S: Strategy<Value: Debug>,
{
    let cases = from_environment("PROPTEST_CASES").unwrap_or(cases);
    let seed = from_environment("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        // A case runs whole jobs: a smaller failure is worth a minute, and not an hour.
        max_shrink_iters: 200,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    if let Err(failure) = TestRunner::new(config).run(&strategy, property) {
        let failure = match failure {
            // On one line: what is left of a case may still be a long list.
            TestError::Fail(why, case) => format!("{why}\nwith {case:?}"),
            aborted => aborted.to_string(),
        };
        panic!(
            "{failure}\nthe same again: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases} cargo test --release --locked -p \
             {} --test any_input {name}",
            env!("CARGO_PKG_NAME")
        );
    }
}

fn from_environment<N: FromStr>(name: &str) -> Option<N> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
