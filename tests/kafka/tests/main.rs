//! Topics as sources and sinks, on real brokers. Where there are none and none can be started, every test is reported as
//! ignored, with the reason; with `TIDEGATE_KAFKA=required` that is a failure.

mod delivery;
mod reading;
mod recovery;
mod security;
mod setting;
mod writing;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use setting::Setting;

/// A test, by its name.
type Test = (&'static str, fn(&Setting));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: Vec<Test> =
        [reading::TESTS, writing::TESTS, recovery::TESTS, delivery::TESTS, security::TESTS].concat();
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
    let setting = setting.ok().map(Arc::new);
    let trial = |(name, test): Test| {
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
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}
