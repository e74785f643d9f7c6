//! The log of a daemon: plain lines on standard error, with the time in front.
//!
//! The environment variable `RUST_LOG` says what is logged, as `LEVEL` or `TARGET=LEVEL,..`; without it, that is `info` and
//! above.

use std::fmt;
use std::io::{self, Write};

use jiff::Timestamp;
use tidegate_protocol::{Error, Result};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Sets the log up.
pub(crate) fn start() -> Result<()> {
    let targets = targets(std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned()))?;
    let lines = tracing_subscriber::fmt::layer().event_format(PlainLines).with_writer(|| Stderr);
    let subscriber = tracing_subscriber::registry().with(targets).with(lines);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| Error::internal("the log was set up twice"))
}

fn targets(variable: Option<String>) -> Result<Targets> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else {
        return Ok(Targets::new().with_default(Level::INFO));
    };
    let invalid = || {
        Error::environment(format!(
            "RUST_LOG=\"{text}\" is invalid: it must be a level (error, warn, info, debug, trace, off) or a list such as \
             info,tidegate_jobmanager=debug"
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

/// Standard error. A write to it may fail, because its reader is gone; that does not end the daemon.
struct Stderr;

impl Write for Stderr {
    /// An event is written at once, as one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as a line: the time, its level if that is not `info`, its target if that is not one of Tidegate, its message
/// and its fields.
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
        write!(line, "{} ", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))?;
        line.write_str(prefix(*metadata.level()))?;
        if !metadata.target().starts_with("tidegate") {
            write!(line, "{}: ", metadata.target())?;
        }
        context.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// How a line of this level begins.
fn prefix(level: Level) -> &'static str {
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
    use super::*;

    #[test]
    fn a_level_that_does_not_exist_is_refused() {
        for text in ["info,x=loud", "loud", "warning", "info,,", "info,x"] {
            let error = targets(Some(text.to_owned())).unwrap_err().to_string();
            assert!(error.contains(&format!("RUST_LOG=\"{text}\" is invalid")), "{error}");
        }
        assert!(targets(Some("info,hyper=debug".to_owned())).is_ok() && targets(None).is_ok());
    }
}
