//! Compares the two topics: every row that went in has to be out once, with the count that its place among the rows of its key gives it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A row of the first topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) key: String,
    /// No other row has it.
    pub(super) number: u64,
}

/// A row of the second topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Counted {
    #[serde(flatten)]
    pub(super) row: Row,
    /// The how manieth of its key it is, from 1, as the job has counted.
    pub(super) count: u64,
}

/// How many rows of a kind there are, and a few of them for whoever looks into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    pub(super) rows: u64,
    /// The first ones.
    pub(super) examples: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings {
    /// Rows in the first topic.
    #[serde(rename = "in")]
    pub(super) rows_in: u64,
    /// Rows in the second one.
    pub(super) out: u64,
    /// Rows that the brokers have acknowledged and that are not in the first topic.
    pub(super) unwritten: Found,
    /// Rows that are in the first topic, and not in the second one.
    pub(super) lost: Found,
    /// Rows that are in the second topic more often than in the first one.
    pub(super) twice: Found,
    /// Rows whose count is another one than it should be: state has lost rows, or has counted them twice.
    pub(super) miscounted: Found,
    /// Rows of the second topic that nobody has written to the first one.
    pub(super) unknown: Found,
}

/// The comparison: first all rows that went in are passed to it, in the order of their partition, then all that came out.
#[derive(Default)]
pub(super) struct Audit {
    /// By number, how often a row is in the first topic and in the second.
    rows: HashMap<u64, (u32, u32)>,
    /// By key, the numbers of its rows in their order.
    keys: HashMap<String, Vec<u64>>,
    findings: Findings,
}

/// How many examples are kept of a kind.
const EXAMPLES: usize = 10;

impl Found {
    fn add(&mut self, rows: u64, example: impl FnOnce() -> String) {
        self.rows += rows;
        if rows > 0 && self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

impl Findings {
    /// Whether everything is as it should be.
    pub(super) fn is_exactly_once(&self) -> bool {
        let kinds = [&self.unwritten, &self.lost, &self.twice, &self.miscounted, &self.unknown];
        kinds.iter().all(|found| found.rows == 0)
    }
}

impl Audit {
    /// A row of the first topic.
    pub(super) fn went_in(&mut self, message: &[u8]) {
        self.findings.rows_in += 1;
        // Whatever else is there, its job cannot have read it as a row either.
        let Ok(row) = serde_json::from_slice::<Row>(message) else { return };
        self.rows.entry(row.number).or_default().0 += 1;
        match self.keys.get_mut(&row.key) {
            Some(numbers) => numbers.push(row.number),
            None => drop(self.keys.insert(row.key, vec![row.number])),
        }
    }

    /// A row of the second topic.
    pub(super) fn came_out(&mut self, message: &[u8]) {
        let findings = &mut self.findings;
        findings.out += 1;
        let text = || String::from_utf8_lossy(message).into_owned();
        let Ok(Counted { row, count }) = serde_json::from_slice(message) else {
            return findings.unknown.add(1, text);
        };
        let Some((_, out)) = self.rows.get_mut(&row.number) else {
            return findings.unknown.add(1, text);
        };
        *out += 1;
        let index = usize::try_from(count).ok().and_then(|count| count.checked_sub(1));
        let numbers = self.keys.get(&row.key);
        let expected = index.and_then(|index| numbers?.get(index));
        if expected != Some(&row.number) {
            findings.miscounted.add(1, text);
        }
    }

    /// What was found. The generator has sent the rows with numbers below `sent`, of which the brokers have not acknowledged `refused`.
    pub(super) fn findings(mut self, sent: u64, refused: &[u64]) -> Findings {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_unstable();
        for (number, (written, out)) in rows {
            let example = || format!("number {number}");
            self.findings.lost.add(u64::from(written.saturating_sub(*out)), example);
            self.findings.twice.add(u64::from(out.saturating_sub(*written)), example);
        }
        let refused: std::collections::HashSet<_> = refused.iter().collect();
        for number in (0..sent).filter(|number| !self.rows.contains_key(number) && !refused.contains(number))
        {
            self.findings.unwritten.add(1, || format!("number {number}"));
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings for rows `key number` and `key number count`.
    fn findings(rows_in: &[&str], out: &[&str]) -> Findings {
        let mut audit = Audit::default();
        for row in rows_in {
            let (key, number) = row.split_once(' ').unwrap();
            audit.went_in(format!(r#"{{"key":"{key}","number":{number}}}"#).as_bytes());
        }
        for row in out {
            let [key, number, count] = row.split(' ').collect::<Vec<_>>().try_into().unwrap();
            audit.came_out(format!(r#"{{"key":"{key}","number":{number},"count":{count}}}"#).as_bytes());
        }
        audit.findings(rows_in.len() as u64, &[])
    }

    fn counts(findings: &Findings) -> [u64; 5] {
        let Findings { unwritten, lost, twice, miscounted, unknown, .. } = findings;
        [unwritten, lost, twice, miscounted, unknown].map(|found| found.rows)
    }

    const IN: [&str; 4] = ["a 0", "b 1", "a 2", "b 3"];

    #[test]
    fn rows_that_are_out_once_in_any_order_of_keys_are_as_they_should_be() {
        let found = findings(&IN, &["b 1 1", "a 0 1", "a 2 2", "b 3 2"]);
        assert!(found.is_exactly_once());
        assert_eq!((found.rows_in, found.out, counts(&found)), (4, 4, [0; 5]));
    }

    #[test]
    fn every_kind_of_damage_is_found_by_its_name() {
        let damaged = |out: &[&str], expected: [u64; 5]| {
            let found = findings(&IN, out);
            assert_eq!(counts(&found), expected, "{out:?}");
            assert!(!found.is_exactly_once());
        };
        damaged(&["a 0 1", "b 1 1", "a 2 2"], [0, 1, 0, 0, 0]);
        damaged(&["a 0 1", "b 1 1", "a 2 2", "b 3 2", "a 2 2"], [0, 0, 1, 0, 0]);
        // Published again after the state has counted it.
        damaged(&["a 0 1", "b 1 1", "a 2 2", "b 3 2", "a 2 3"], [0, 0, 1, 1, 0]);
        // State has read the first row of a twice, or has forgotten it.
        damaged(&["a 0 1", "b 1 1", "a 2 3", "b 3 2"], [0, 0, 0, 1, 0]);
        damaged(&["a 0 1", "b 1 1", "a 2 1", "b 3 2"], [0, 0, 0, 1, 0]);
        damaged(&["a 0 0", "b 1 1", "a 2 2", "b 3 2"], [0, 0, 0, 1, 0]);
        // The count of another key, and a row of nobody.
        damaged(&["b 0 1", "b 1 1", "a 2 2", "b 3 2"], [0, 0, 0, 1, 0]);
        damaged(&["a 0 1", "b 1 1", "a 2 2", "b 3 2", "a 4 3"], [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_row_that_was_written_twice_has_to_be_out_twice() {
        let twice = ["a 0", "a 1", "a 0"];
        assert_eq!(
            counts(&findings(&twice, &["a 0 1", "a 1 2", "a 0 3"])),
            [1, 0, 0, 0, 0],
            "number 2 is missing"
        );
        assert_eq!(counts(&findings(&twice, &["a 0 1", "a 1 2"])), [1, 1, 0, 0, 0]);
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_was_lost_by_the_brokers() {
        let mut audit = Audit::default();
        audit.went_in(br#"{"key":"a","number":1}"#);
        audit.came_out(br#"{"key":"a","number":1,"count":1}"#);
        let found = audit.findings(3, &[2]);
        assert_eq!(found.unwritten, Found { rows: 1, examples: vec!["number 0".to_owned()] });
        assert!(!found.is_exactly_once());
    }

    #[test]
    fn what_is_no_row_was_written_by_nobody() {
        let mut audit = Audit::default();
        audit.came_out(b"[]");
        assert_eq!(audit.findings(0, &[]).unknown.examples, ["[]"]);
    }
}
