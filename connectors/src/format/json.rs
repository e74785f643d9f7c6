//! Parses one line of JSON into a record, or says what is wrong with it.

use serde::de::DeserializeOwned;

/// Parses a line. `utf8` says that it is known to be UTF-8, from a check of many lines at once.
///
/// # Errors
/// What is wrong with the line, for the dead letter.
#[inline]
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8], utf8: bool) -> Result<T, String> {
    let text = if utf8 {
        debug_assert!(std::str::from_utf8(line).is_ok());
        // SAFETY: the caller checked a stretch of bytes that this line is a part of, from behind one newline to the
        // next. A newline byte is a character of its own in UTF-8, so every line of a valid stretch is valid.
        unsafe { std::str::from_utf8_unchecked(line) }
    } else {
        simdutf8::compat::from_utf8(line).map_err(|e| no_utf8(e.valid_up_to()))?
    };
    serde_json::from_str(text).map_err(|e| explain(&e))
}

#[cold]
fn no_utf8(byte: usize) -> String {
    format!("not UTF-8 from byte {byte} on")
}

/// serde_json's message without the line number, which is always 1 here.
#[cold]
fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match message.strip_suffix(&place) {
        Some(what) => format!("{what} at column {}", error.column()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row {
        n: u32,
    }

    fn parsed(line: &[u8]) -> Result<Row, String> {
        parse(line, false)
    }

    #[test]
    fn errors_name_the_column_and_no_line() {
        assert_eq!(parsed(b"{\"n\":7}"), Ok(Row { n: 7 }));
        assert_eq!(parse::<Row>(b"{\"n\":7} ", true), Ok(Row { n: 7 }));
        let error = |line: &[u8]| parsed(line).unwrap_err();
        assert_eq!(error(b"{\"n\":"), "EOF while parsing a value at column 5");
        assert_eq!(error(b"{}"), "missing field `n` at column 2");
        assert_eq!(error(b"{\"n\":-1}"), "invalid value: integer `-1`, expected u32 at column 7");
        assert_eq!(error(b"{\"n\":1}{"), "trailing characters at column 8");
        assert_eq!(error(b"{\"n\":\"\xff\"}"), "not UTF-8 from byte 6 on");
    }

    #[test]
    fn deep_nesting_is_an_error_and_does_not_overflow_the_stack() {
        let deep = "[".repeat(1_000_000);
        let error = parse::<serde_json::Value>(deep.as_bytes(), true).unwrap_err();
        assert_eq!(error, "recursion limit exceeded at column 128");
    }
}
