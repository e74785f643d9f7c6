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
use tidegate_kafka_tests::Registry;

/// A test, by its name.
type Test = (&'static str, fn(&Setting));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: Vec<Test> = [
        reading::TESTS,
        drift::TESTS,
        writing::TESTS,
        recovery::TESTS,
        delivery::TESTS,
        security::TESTS,
        formats::TESTS,
        verify::TESTS,
    ]
    .concat();
    // A list needs no brokers.
    let setting = if arguments.list { Err("not started".to_owned()) } else { Setting::new() };
    if let Err(why) = &setting
        && !arguments.list
    {
        eprintln!("no test of Kafka can run: {why}");
        if std::env::var("TIDEGATE_KAFKA").is_ok_and(|wanted| wanted == "required") {
            return ExitCode::FAILURE;
        }
    }
    let registry = if setting.is_ok() { Registry::fetch() } else { Err("not started".to_owned()) };
    if let (Ok(_), Err(why)) = (&setting, &registry) {
        eprintln!("no test of a schema registry can run: {why}");
        if std::env::var("TIDEGATE_KAFKA").is_ok_and(|wanted| wanted == "required") {
            return ExitCode::FAILURE;
        }
    }
    let setting = setting.ok().map(Arc::new);
    let with_registry = setting.clone().filter(|_| registry.is_ok());
    let trial = |(name, test): Test, setting: &Option<Arc<Setting>>| {
        let setting = setting.clone();
        let is_missing = setting.is_none();
        let run = move || {
            if let Some(setting) = &setting {
                test(setting);
            }
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(is_missing)
    };
    let tests = tests.into_iter().map(|test| trial(test, &setting));
    let registry_tests = formats::REGISTRY_TESTS.iter().map(|test| trial(*test, &with_registry));
    libtest_mimic::run(&arguments, tests.chain(registry_tests).collect()).exit_code()
}
