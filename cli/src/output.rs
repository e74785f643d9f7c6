//! What the program prints: the answer on standard output, all else on standard error.
//!
//! A reader that has closed its end of the pipe (`| head`) is no error.

use std::fmt::{Display, Write as _};
use std::io::{ErrorKind, Write as _};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use tidegate_protocol::{Error, Result};

/// Writes a line to standard error. The write may fail, because the reader is gone; that does not end the command.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes a part of the answer. False if nobody reads it any more.
pub(crate) fn answer(text: impl Display) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::from(e).context("cannot write the answer to standard output")),
    }
}

/// Writes an answer as JSON.
pub(crate) fn answer_json(value: &impl Serialize) -> Result<bool> {
    answer(format_args!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A value of the REST interface with the field names of the command line's JSON: `last_epoch` instead of `last-epoch`.
pub(crate) fn snake_case(value: &impl Serialize) -> Result<Value> {
    Ok(renamed(serde_json::to_value(value)?))
}

fn renamed(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name.replace('-', "_"), renamed(value)));
            Value::Object(fields.collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(renamed).collect()),
        other => other,
    }
}

/// Rows of text in columns.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a head; none if all titles are empty.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        let has_head = head.iter().any(|title| !title.is_empty());
        Self { rows: if has_head { vec![head.map(str::to_owned).to_vec()] } else { Vec::new() } }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Milliseconds since the Unix epoch as a date and time of day; the number itself if it is beyond the calendar.
pub(crate) fn utc(ms: u64) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Milliseconds as people read them: `340ms`, `12s`, `3h 5m`.
pub(crate) fn span(ms: u64) -> String {
    let whole = |ms: u64| format!("{:#}", SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)));
    match ms {
        ms if ms >= 60_000 => whole(ms / 1000 * 1000),
        ms if ms >= 10_000 => whole(ms / 100 * 100),
        ms => whole(ms),
    }
}

/// A number of bytes as people read it: `12.3 MB`.
pub(crate) fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().si().to_string()
}

/// A text as a word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "/._-+:@=,".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_word_of_a_shell() {
        assert_eq!(quoted("/a/b-1.c"), "/a/b-1.c");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_and_has_no_blanks_at_the_end() {
        let mut table = Table::new(["ID", "NAME"]);
        table.row(["1".to_owned(), "größe".to_owned()]);
        table.row(["100".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "ID   NAME\n1    größe\n100\n");
    }

    #[test]
    fn fields_get_the_names_of_the_command_line() {
        let value = serde_json::json!({"last-epoch": [{"a-b-c": "x-y"}]});
        assert_eq!(snake_case(&value).unwrap(), serde_json::json!({"last_epoch": [{"a_b_c": "x-y"}]}));
    }

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(u64::MAX), u64::MAX.to_string());
        assert_eq!([340, 3_725_123].map(span), ["340ms", "1h 2m 5s"]);
        assert_eq!(bytes(12_300_000), "12.3 MB");
    }
}
