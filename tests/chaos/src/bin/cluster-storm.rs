//! Kills, pauses and cuts off the processes of a cluster, and holds what it publishes against an independent oracle.

use clap::Parser;
use std::process::ExitCode;
use tidegate_chaos::cluster::StormOptions;
use tidegate_chaos::cluster::storm::Storm;

fn main() -> ExitCode {
    match Storm::run(StormOptions::parse()) {
        Ok(verdict) => {
            println!("{verdict}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAIL {failure}");
            ExitCode::FAILURE
        }
    }
}
