//! Kills a job again and again, and holds what it publishes against an independent oracle.

use clap::Parser;
use std::process::ExitCode;
use tidegate_chaos::{Driver, Options};

fn main() -> ExitCode {
    match Driver::run(Options::parse()) {
        Ok(report) => {
            report.lines().iter().for_each(|line| println!("{line}"));
            println!("{}", report.verdict());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAIL {failure}");
            ExitCode::FAILURE
        }
    }
}
