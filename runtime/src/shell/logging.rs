//! The log of a job: what the engine reports, and what the job's own code and its libraries log with `tracing`. It goes to
//! standard error as plain lines without the time, which the collector of the log adds.
//!
//! The environment variable `RUST_LOG` says what is logged, as `LEVEL` or `TARGET=LEVEL,..`; without it, that is `info` and above.
//! A program that has installed a subscriber of its own before it calls [`main`](crate::main) keeps it.

use std::fmt;
use std::io::{self, Write};

use indicatif::ProgressBar;
use tidegate_protocol::{Error, Result};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// The target of what the engine reports.
pub(super) const ENGINE: &str = "tidegate";

/// Sets the log up. While there is a progress bar, lines go above it.
pub(crate) fn start(bar: Option<ProgressBar>) -> Result<()> {
    let targets = targets(std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned()))?;
    // A subscriber that is there already is the program's own choice.
    drop(tracing::subscriber::set_global_default(subscriber(targets, move || Stderr { bar: bar.clone() })));
    Ok(())
}

/// Writes a line of the engine to the log.
pub(crate) fn log(level: Level, text: &str) {
    if level == Level::WARN {
        tracing::warn!(target: ENGINE, "{text}");
    } else {
        tracing::info!(target: ENGINE, "{text}");
    }
}

fn subscriber<W>(targets: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().event_format(PlainLines).with_writer(writer);
    tracing_subscriber::registry().with(targets).with(lines)
}

fn targets(variable: Option<String>) -> Result<Targets> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else {
        return Ok(Targets::new().with_default(Level::INFO));
    };
    let invalid = || {
        Error::job(format!(
            "RUST_LOG=\"{text}\" is invalid: it must be a level (error, warn, info, debug, trace, off) or a list such as \
             info,my_job=debug"
        ))
    };
    // A word alone would be read as a target, so that a misspelled level would silence the log.
    let levels: Vec<&str> = text.split(',').filter(|part| !part.contains('=')).collect();
    if levels.iter().any(|level| level.is_empty() || level.parse::<LevelFilter>().is_err()) {
        return Err(invalid());
    }
    let targets: Targets = text.parse().map_err(|_| invalid())?;
    Ok(if levels.is_empty() { targets.with_default(Level::INFO) } else { targets })
}

/// Standard error. A write to it may fail, because its reader is gone; that does not end the job.
struct Stderr {
    bar: Option<ProgressBar>,
}

impl Write for Stderr {
    /// An event is written at once, as one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let write = || {
            let _ = io::stderr().write_all(line);
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as a line: its level if that is not `info`, its target if that is not the engine, its message and its fields.
struct PlainLines;

impl<S, N> FormatEvent<S, N> for PlainLines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        line.write_str(prefix(*metadata.level()))?;
        if metadata.target() != ENGINE {
            write!(line, "{}: ", metadata.target())?;
        }
        context.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// How a line of this level begins.
pub(crate) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        Level::INFO => "",
        Level::DEBUG => "debug: ",
        Level::TRACE => "trace: ",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is written, all of it.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(variable: Option<&str>, log: impl FnOnce()) -> String {
        let written = Written::default();
        let to = written.clone();
        let targets = targets(variable.map(str::to_owned)).unwrap();
        tracing::subscriber::with_default(subscriber(targets, move || to.clone()), log);
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    fn log_something() {
        tracing::info!(target: ENGINE, "attempt 2 goes on from epoch 7");
        tracing::warn!(target: ENGINE, "epoch 8 was aborted");
        tracing::info!(target: "my_job", rows = 7, "a model was loaded");
        tracing::debug!(target: "my_job", "a detail");
    }

    #[test]
    fn lines_of_the_engine_are_plain_and_others_name_their_target() {
        let engine = "attempt 2 goes on from epoch 7\nwarning: epoch 8 was aborted\n";
        let job = "my_job: a model was loaded rows=7\n";
        assert_eq!(logged(None, log_something), [engine, job].concat());
        assert_eq!(logged(Some(""), log_something), [engine, job].concat());
        assert_eq!(logged(Some("warn"), log_something), "warning: epoch 8 was aborted\n");
        let all = [engine, job, "debug: my_job: a detail\n"].concat();
        assert_eq!(logged(Some("info,my_job=debug"), log_something), all);
        assert_eq!(logged(Some("my_job=debug"), log_something), all, "others are at info");
        assert_eq!(logged(Some("off"), log_something), "");
    }

    #[test]
    fn a_level_that_does_not_exist_is_refused() {
        for text in ["info,my_job=loud", "loud", "warning", "info,,", "info,my_job"] {
            let error = targets(Some(text.to_owned())).unwrap_err().to_string();
            assert!(error.contains(&format!("RUST_LOG=\"{text}\" is invalid")), "{error}");
        }
    }
}
