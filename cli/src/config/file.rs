//! The configuration file: TOML with one level of sections.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tidegate_protocol::{Error, Result};
use toml::de::{DeTable, DeValue};

use super::keys::{self, AnyKey};

/// Where a configuration file is looked for, if none is named.
const PLACES: [&str; 2] = ["tidegate.toml", "/etc/tidegate/tidegate.toml"];

/// A key that is set in a file.
pub(super) struct Line {
    pub(super) key: &'static dyn AnyKey,
    pub(super) text: String,
    /// Counted from 1.
    pub(super) number: usize,
}

/// The file that is read if none is named.
pub(super) fn usual() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The keys that are set in a file.
pub(super) fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::from(e).context(format!("the configuration file {} cannot be read", path.display()))
    })?;
    parse(path, &text)
}

/// The keys that are set in a text, which is that of the file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Line>> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|e| {
        // The parser's message may have several lines.
        let message = e.message().lines().collect::<Vec<_>>().join("; ");
        file.refused(e.span().unwrap_or(0..0), &format!("this is not TOML: {message}"))
    })?;
    let mut lines = Vec::new();
    file.flatten("", table.get_ref(), &mut lines)?;
    Ok(lines)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn flatten(&self, section: &str, table: &DeTable<'_>, lines: &mut Vec<Line>) -> Result<()> {
        for (key, value) in table {
            let name = if section.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{section}.{}", key.get_ref())
            };
            match value.get_ref() {
                DeValue::Table(inner) if is_section(&name) => self.flatten(&name, inner, lines)?,
                value => lines.push(self.line(&name, key.span(), value)?),
            }
        }
        Ok(())
    }

    fn line(&self, name: &str, span: Range<usize>, value: &DeValue<'_>) -> Result<Line> {
        let key = keys::find(name).ok_or_else(|| self.refused(span.clone(), &unknown(name)))?;
        let invalid =
            |reason: &str| self.refused(span.clone(), &format!("the value of '{name}' is invalid: {reason}"));
        let text = text_of(value).ok_or_else(|| invalid("it must be a text in quotes or a number"))?;
        key.check(&text).map_err(|reason| invalid(&reason))?;
        Ok(Line { key, text, number: self.number(span.start) })
    }

    fn refused(&self, span: Range<usize>, why: &str) -> Error {
        Error::environment(format!("{}, line {}: {why}", self.path.display(), self.number(span.start)))
    }

    /// The number of the line at a position.
    fn number(&self, position: usize) -> usize {
        let before = self.text.as_bytes().iter().take(position);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

fn is_section(name: &str) -> bool {
    keys::ALL.iter().any(|key| key.parts().0 == name)
}

fn unknown(name: &str) -> String {
    let (section, own) = name.split_once('.').unwrap_or(("", name));
    let hint = match keys::nearest(name).map(AnyKey::parts) {
        Some((of, key)) if of == section => format!("did you mean '{key}'?"),
        Some((of, key)) => format!("did you mean '{key}' in [{of}]?"),
        None => "'tidegate config' lists all keys".to_owned(),
    };
    if section.is_empty() {
        format!("there is no key or section '{own}'; {hint}")
    } else {
        format!("there is no key '{own}' in [{section}]; {hint}")
    }
}

/// A value as it would be written in a flag.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        // Digits may be grouped with underscores.
        DeValue::Integer(number) => {
            Some(i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Array(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(|part| text_of(part.get_ref())).collect();
            Some(parts?.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<(&'static str, String, usize)> {
        let lines = parse(Path::new("t.toml"), text).unwrap();
        lines.into_iter().map(|line| (line.key.name(), line.text, line.number)).collect()
    }

    fn error(text: &str) -> String {
        parse(Path::new("t.toml"), text).err().unwrap().to_string()
    }

    #[test]
    fn keys_are_read_with_their_lines() {
        let text = "# a comment\n[taskmanager]\nslots = 1_0\n\n[checkpoint]\ninterval = '2s' # often\nmin-pause = 0.5\n";
        let mut read = set(text);
        read.sort_by_key(|line| line.2);
        let expected = [
            ("taskmanager.slots", "10", 3),
            ("checkpoint.interval", "2s", 6),
            ("checkpoint.min-pause", "0.5", 7),
        ];
        assert_eq!(read, expected.map(|(name, text, line)| (name, text.to_owned(), line)));
        let peers = set("jobmanager.peers = ['a:1', 'b:2']");
        assert_eq!(peers, [("jobmanager.peers", "a:1,b:2".to_owned(), 1)]);
        assert!(set("").is_empty());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
        for (text, expected) in [
            (
                "[taskmanager]\n\nslot = 4",
                "t.toml, line 3: there is no key 'slot' in [taskmanager]; did you mean 'slots'?",
            ),
            (
                "[jobmanager]\nslots = 4",
                "t.toml, line 2: there is no key 'slots' in [jobmanager]; did you mean 'slots' in [taskmanager]?",
            ),
            (
                "\nslots = 4",
                "t.toml, line 2: there is no key or section 'slots'; did you mean 'slots' in [taskmanager]?",
            ),
            (
                "[nothing]\nof-this = 4",
                "t.toml, line 1: there is no key or section 'nothing'; 'tidegate config' lists all keys",
            ),
        ] {
            assert_eq!(error(text), expected);
        }
    }

    #[test]
    fn an_invalid_value_or_file_is_refused_with_its_line() {
        for (text, expected) in [
            (
                "[taskmanager]\nslots = 0",
                "t.toml, line 2: the value of 'taskmanager.slots' is invalid: it must be at least 1",
            ),
            (
                "[taskmanager]\nslots = true",
                "t.toml, line 2: the value of 'taskmanager.slots' is invalid: it must be a text in quotes or a number",
            ),
            (
                "[taskmanager.slots]\nx = 1",
                "t.toml, line 1: the value of 'taskmanager.slots' is invalid: it must be a text in quotes or a number",
            ),
        ] {
            assert_eq!(error(text), expected);
        }
        let error = error("[taskmanager]\n\nslots = = 4");
        assert!(error.starts_with("t.toml, line 3: this is not TOML: ") && !error.contains('\n'), "{error}");
    }
}
