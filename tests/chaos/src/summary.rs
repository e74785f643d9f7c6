//! The totals that a job tells at its end. They ride in its snapshots, so they are exact across kills.

use crate::failure::{Context, Failure, Result};
use crate::oracle::Oracle;
use serde_json::Value;
use std::path::Path;

/// Holds the totals in the file `path` against the oracle's counts.
pub fn check(path: &Path, oracle: &Oracle) -> Result<()> {
    let text = std::fs::read(path).context(format!("no summary at {}", path.display()))?;
    let summary: Value = serde_json::from_slice(&text).context("the summary is no JSON")?;
    let counts = &oracle.counts;
    let totals = [
        ("/rows_in", counts.rows),
        ("/malformed", counts.malformed),
        ("/dropped/out_of_range", counts.out_of_range),
        ("/late", counts.late),
        ("/rows_out", oracle.windows.len() as u64),
    ];
    let wrong: Vec<String> =
        totals.iter().filter_map(|(name, right)| difference(&summary, name, *right)).collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("the summary is wrong: {}", wrong.join(", "))))
    }
}

/// True if the totals in the file `path` are those of a job that has reached the end of its input.
pub fn says_finished(path: &Path) -> bool {
    let summary: Option<Value> = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    summary.is_some_and(|summary| summary["finished"] == true)
}

/// How the total `name`, the path to it in the JSON, differs from the right one.
fn difference(summary: &Value, name: &str, right: u64) -> Option<String> {
    match summary.pointer(name).and_then(Value::as_u64) {
        Some(told) if told == right => None,
        told => {
            Some(format!("{name} is {}, must be {right}", told.map_or("not there".into(), |n| n.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Counts;
    use std::collections::HashMap;

    fn checked(summary: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), summary).expect("a summary");
        let counts = Counts { rows: 9, malformed: 1, out_of_range: 2, late: 3 };
        let (devices, windows, dead_letters) = (HashMap::new(), HashMap::new(), HashMap::new());
        check(file.path(), &Oracle { devices, windows, dead_letters, counts, model: "m".into() })
    }

    #[test]
    fn exact_totals_pass() {
        checked(r#"{"rows_in":9,"malformed":1,"dropped":{"out_of_range":2},"late":3,"rows_out":0}"#)
            .expect("exact");
    }

    #[test]
    fn a_total_that_is_off_by_one_or_not_there_is_named() {
        let error = checked(r#"{"rows_in":10,"malformed":1,"dropped":{"out_of_range":2},"rows_out":0}"#)
            .expect_err("wrong");
        assert!(error.to_string().contains("/rows_in is 10, must be 9, /late is not there"));
    }
}
