//! What a verification has found.

use std::fmt;

use serde::Serialize;
use tidegate_protocol::JobId;

use super::audit::{Findings, Found};
use super::fault::{Made, said};
use crate::output::{Table, span};

/// The answer of `verify exactly-once`. Durations are in milliseconds.
#[derive(Serialize)]
pub(super) struct Report {
    /// Whether every row counts exactly once.
    pub(super) exactly_once: bool,
    pub(super) job: JobId,
    pub(super) topics: [String; 2],
    /// Whether the topics are left for whoever looks into it.
    pub(super) topics_kept: bool,
    pub(super) seed: u64,
    #[serde(flatten)]
    pub(super) findings: Findings,
    /// Rows that the brokers have not acknowledged: they may be in the first topic or not, and count as what they are.
    pub(super) unacknowledged: u64,
    /// Whether rows were missing for so long that they were not waited for any more.
    pub(super) gave_up: bool,
    pub(super) faults: Vec<Made>,
    pub(super) restarts: u32,
    /// From the first row that was written to the first one that was read.
    pub(super) first_row_after: Option<u64>,
    /// For how long rows were written.
    pub(super) written_for: u64,
    /// The longest time without a new row in a partition.
    pub(super) longest_block: u64,
    /// When it began, since the first row had come out.
    pub(super) longest_block_at: Option<u64>,
    /// The longest time for which a last stable offset stayed where it was, behind the high watermark.
    pub(super) longest_transaction: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { rows_in, out, unwritten, lost, twice, miscounted, unknown } = &self.findings;
        let mut table = Table::new(["", ""]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row("In", format!("{rows_in} rows, written for {}", span(self.written_for)));
        row("Out", format!("{out} rows"));
        row("Lost", found(lost));
        row("Twice", found(twice));
        row("Miscounted", found(miscounted));
        row("Never written", found(unknown));
        row("Lost by brokers", found(unwritten));
        if self.unacknowledged > 0 {
            row(
                "Unacknowledged",
                format!("{} rows, which count if they are in the topic", self.unacknowledged),
            );
        }
        row("Faults", self.faults());
        row("Restarts", self.restarts.to_string());
        row(
            "First row",
            self.first_row_after.map_or_else(|| "never".to_owned(), |after| format!("after {}", span(after))),
        );
        let at = self.longest_block_at.map_or_else(String::new, |at| format!(" from {} on", span(at)));
        row("Longest block", format!("{}{at}, a partition without a new row", span(self.longest_block)));
        row("", format!("{}, a transaction that readers waited for", span(self.longest_transaction)));
        row("Seed", self.seed.to_string());
        for made in &self.faults {
            row("Fault", fault(made));
        }
        write!(f, "{table}\n{}", self.conclusion())
    }
}

impl Report {
    fn faults(&self) -> String {
        let made = self.faults.iter().filter(|fault| fault.outcome.is_made()).count();
        match (made, self.faults.len() - made) {
            (0, 0) => "none was tried: --fault job allows to kill processes of the job".to_owned(),
            (made, 0) => made.to_string(),
            (made, failed) => format!("{made}, and {failed} whose command has failed"),
        }
    }

    fn conclusion(&self) -> String {
        let [rows, counted] = &self.topics;
        let mut text =
            if self.exactly_once { "Every row counts exactly once.\n" } else { "NOT exactly once.\n" }
                .to_owned();
        if self.gave_up {
            text += "Rows were missing for so long that they were not waited for any more; the job was cancelled.\n";
        }
        if self.topics_kept {
            text += &format!("The topics {rows} and {counted} are kept.\n");
        }
        text
    }
}

fn found(found: &Found) -> String {
    match found.examples.as_slice() {
        [] => found.rows.to_string(),
        examples => {
            let more = if found.rows > examples.len() as u64 { ", .." } else { "" };
            format!("{} ({}{more})", found.rows, examples.join(", "))
        }
    }
}

fn fault(Made { fault, at, duration, outcome }: &Made) -> String {
    format!("after {}, {fault}: {} ({})", span(*at), said(outcome), span(*duration))
}

#[cfg(test)]
mod tests {
    use super::super::fault::{Fault, Outcome};
    use super::*;

    fn report() -> Report {
        Report {
            exactly_once: true,
            job: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            topics: ["a-in", "a-out"].map(str::to_owned),
            topics_kept: false,
            seed: 7,
            findings: Findings { rows_in: 10, out: 10, ..Findings::default() },
            unacknowledged: 0,
            gave_up: false,
            faults: Vec::new(),
            restarts: 0,
            first_row_after: Some(1200),
            written_for: 60_000,
            longest_block: 1100,
            longest_block_at: Some(300),
            longest_transaction: 0,
        }
    }

    #[test]
    fn a_report_says_that_no_fault_was_tried() {
        let text = report().to_string();
        assert!(text.contains("none was tried: --fault job"), "{text}");
        assert!(text.ends_with("Every row counts exactly once.\n"), "{text}");
    }

    #[test]
    fn a_report_shows_what_is_wrong_and_where_to_look() {
        let mut report = Report { exactly_once: false, topics_kept: true, ..report() };
        report.findings.lost = Found { rows: 3, examples: vec!["number 4".to_owned()] };
        let made = |outcome| Made { fault: Fault::Command("x".to_owned()), at: 0, duration: 0, outcome };
        report.faults = vec![made(Outcome::Exit(0)), made(Outcome::Exit(3))];
        let text = report.to_string();
        for expected in [
            "3 (number 4, ..)",
            "1, and 1 whose command has failed",
            "exit code 3",
            "NOT exactly once",
            "a-in and a-out",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["in"], &json["lost"]["rows"], &json["faults"][1]["outcome"]["exit"]),
            (&10.into(), &3.into(), &3.into())
        );
    }
}
