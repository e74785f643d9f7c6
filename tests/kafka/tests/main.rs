//! Topics as sources and sinks, on real brokers, and with a real schema registry. Where there are none and none can be started,
//! tests are reported as ignored, with the reason; with `TIDEGATE_KAFKA=required` that is a failure.

mod delivery;
mod drift;
mod formats;
mod reading;
mod recovery;
mod security;
mod setting;
mod verify;
mod writing;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use setting::Setting;
use tidegate_kafka_tests::{Brokers, Registry};

/// A test, by its name.
type Test = (&'static str, fn(&Setting));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // A list needs no brokers.
    let present = if arguments.list { Present::default() } else { Present::look() };
    present.missing.iter().for_each(|what| eprintln!("{what}"));
    let is_required = std::env::var("TIDEGATE_KAFKA").is_ok_and(|wanted| wanted == "required");
    if is_required && !present.missing.is_empty() {
        return ExitCode::FAILURE;
    }
    let tests = [
        (reading::TESTS, present.brokers),
        (drift::TESTS, present.brokers),
        (writing::TESTS, present.brokers),
        (recovery::TESTS, present.brokers),
        (recovery::TESTS_WITH_OWN_BROKERS, present.own_brokers),
        (delivery::TESTS, present.brokers),
        (delivery::TESTS_WITH_OWN_BROKERS, present.own_brokers),
        (security::TESTS_WITH_OWN_BROKERS, present.own_brokers),
        (formats::TESTS, present.brokers),
        (formats::TESTS_WITH_REGISTRY, present.registry),
        (verify::TESTS, present.brokers),
    ];
    let trials = tests.into_iter().flat_map(|(tests, is_present)| {
        let setting = present.setting.clone().filter(|_| is_present);
        tests.iter().map(move |test| trial(*test, setting.clone()))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A test; ignored where there is not what it needs.
fn trial((name, test): Test, setting: Option<Arc<Setting>>) -> Trial {
    let is_missing = setting.is_none();
    let run = move || {
        if let Some(setting) = &setting {
            test(setting);
        }
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(is_missing)
}

/// What there is on this machine.
#[derive(Default)]
struct Present {
    setting: Option<Arc<Setting>>,
    /// Brokers that all tests share.
    brokers: bool,
    /// Brokers of a test's own, which it may kill.
    own_brokers: bool,
    registry: bool,
    /// What is not there, and why.
    missing: Vec<String>,
}

impl Present {
    fn look() -> Self {
        let mut this = Self::default();
        match Setting::new() {
            Ok(setting) => this.setting = Some(Arc::new(setting)),
            Err(why) => {
                this.missing.push(format!("no test of Kafka can run: {why}"));
                return this;
            }
        }
        let (own, registry) = (Brokers::obstacle(), Registry::fetch().err());
        (this.brokers, this.own_brokers, this.registry) = (true, own.is_none(), registry.is_none());
        let own = own.map(|why| format!("no test with brokers of its own can run: {why}"));
        let registry = registry.map(|why| format!("no test of a schema registry can run: {why}"));
        this.missing.extend(own.into_iter().chain(registry));
        this
    }
}
