//! `tidegate config`: the values that are in force, and where they come from.

use serde::Serialize;
use tidegate_protocol::Result;

use super::Config;
use super::keys::{self, AnyKey, Default};
use crate::options::Format;
use crate::output::{Table, answer, answer_json};

/// A key in the command line's JSON.
#[derive(Serialize)]
struct Row<'a> {
    key: &'static str,
    /// Null if it is not set and has no default.
    value: Option<&'a str>,
    from: Option<String>,
    variable: &'static str,
}

/// Prints the values of all keys.
pub(crate) fn show(config: &Config, format: Format) -> Result<()> {
    let rows: Vec<Row<'_>> = keys::ALL.iter().map(|key| row(config, *key)).collect();
    if format == Format::Json {
        answer_json(&rows)?;
        return Ok(());
    }
    let mut table = Table::new(["KEY", "VALUE", "FROM"]);
    for Row { key, value, from, .. } in rows {
        let from = from.unwrap_or_else(|| if_not_set(key));
        table.row([key.to_owned(), value.unwrap_or("-").to_owned(), from]);
    }
    answer(table)?;
    Ok(())
}

fn row<'a>(config: &'a Config, key: &dyn AnyKey) -> Row<'a> {
    let entry = config.entry(key);
    Row {
        key: key.name(),
        value: entry.map(|entry| &*entry.text),
        from: entry.map(|entry| entry.origin.to_string()),
        variable: key.variable(),
    }
}

/// What holds where a key has no value.
fn if_not_set(name: &str) -> String {
    match keys::find(name).map(AnyKey::default) {
        Some(Default::Found { words, .. }) => words.to_owned(),
        _ => "not set".to_owned(),
    }
}
