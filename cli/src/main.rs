//! The program `tidegate`: the command line of a cluster, and its daemons.
//!
//! - [`options`]: subcommands and flags. [`parse`]: the values of flags and of configuration keys.
//! - [`config`]: what is in force of flags, environment, configuration file and defaults.
//! - [`verbs`]: `run`, `list`, `info` and all else that asks the jobmanager.
//! - [`daemons`]: `jobmanager` and `taskmanager`; [`logging`]: their log; [`open_files`]: how many they may have.
//! - [`tls`]: which files connections need.
//! - [`cluster`]: a cluster on this machine.
//! - [`output`], [`progress`]: standard output has the answer, standard error everything else.
//!
//! The exit code is 0 for success, 1 for an error, 2 for a wrong command line; `run` has its own for how a job has ended, and `verify`
//! has 1 for an installation that is not as it should be.
//!
//! Not here: what daemons do (crates `tidegate-jobmanager` and `tidegate-taskmanager`), and how requests are signed
//! (`tidegate-client`).

mod cluster;
mod config;
mod daemons;
mod logging;
mod open_files;
mod options;
mod output;
mod parse;
mod progress;
mod tls;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tidegate_protocol::Result;

use crate::config::{Config, DefaultFile, Sources};
use crate::options::{ClusterVerb, Options, TransactionsVerb, Verb, VerifyVerb};
use crate::output::{answer, say};
use crate::verbs::Session;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format_args!("Error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Carries a subcommand out; returns the exit code.
fn run(options: &Options) -> Result<u8> {
    if let Verb::Completions { shell } = options.verb {
        return completions(shell).map(|()| 0);
    }
    let sources =
        Sources::of_process(options.given(), options.global.config.clone(), cluster::in_this_directory());
    let config = Config::load(sources)?;
    let format = options.global.output;
    let session = || Session::new(&config, format);
    match &options.verb {
        Verb::Run(run) => return verbs::run(session()?, run),
        Verb::Verify(VerifyVerb::ExactlyOnce(verify)) => {
            return verbs::verify_exactly_once(session()?, verify);
        }
        Verb::List(list) => verbs::list(&session()?, list),
        Verb::Info(job) => verbs::info(&session()?, job),
        Verb::Savepoint(savepoint) => verbs::savepoint(session()?, savepoint),
        Verb::Stop(stop) => verbs::stop(&session()?, stop),
        Verb::Cancel(job) => verbs::cancel(&session()?, job),
        Verb::Rescale(rescale) => verbs::rescale(&session()?, rescale),
        Verb::Checkpoints(job) => verbs::checkpoints(&session()?, job),
        Verb::Why(job) => verbs::why(&session()?, job),
        Verb::Logs(logs) => verbs::logs(&session()?, logs),
        Verb::Taskmanagers => verbs::taskmanagers(&session()?),
        Verb::Transactions(TransactionsVerb::List(list)) => verbs::list_transactions(list, format),
        Verb::Transactions(TransactionsVerb::Abort(abort)) => verbs::abort_transactions(abort, format),
        Verb::Cluster(ClusterVerb::Up(up)) => cluster::up(up, &options.global, &config),
        Verb::Cluster(ClusterVerb::Down(down)) => cluster::down(down, format),
        Verb::Jobmanager(_) => daemons::jobmanager(&config),
        Verb::Taskmanager(_) => daemons::taskmanager(&config),
        Verb::Config { default: true } => answer(DefaultFile).map(drop),
        Verb::Config { default: false } => config::show(&config, format),
        Verb::Completions { shell } => completions(*shell),
    }?;
    Ok(0)
}

/// Not written by clap itself, which panics if nobody reads it.
fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "tidegate", &mut script);
    answer(String::from_utf8_lossy(&script))?;
    Ok(())
}
