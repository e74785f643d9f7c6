//! A Markdown table that reads well as plain text too.

use std::fmt;

/// Rows of cells under a heading; all columns but the first are figures, aligned to the right.
#[derive(Debug, Default)]
pub struct Table {
    /// What was measured, in one line.
    pub title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(title: impl Into<String>, head: &[&str]) -> Table {
        let head = head.iter().map(|h| h.to_string()).collect();
        Table { title: title.into(), head, ..Table::default() }
    }

    /// In place of a measurement that cannot be taken here.
    pub fn skipped(measurement: &str, why: &str) -> Table {
        let mut table = Table::new(format!("{measurement}: skipped"), &[]);
        table.note(why);
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a sentence under the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        (0..self.head.len()).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.head.is_empty() {
            writeln!(f, "### {}", self.title)?;
            return self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"));
        }
        let widths = self.widths();
        writeln!(f, "### {}\n", self.title)?;
        line(f, &self.head, &widths)?;
        let rules = widths
            .iter()
            .enumerate()
            .map(|(i, w)| if i == 0 { "-".repeat(*w) } else { "-".repeat(w - 1) + ":" });
        line(f, &rules.collect::<Vec<_>>(), &widths)?;
        self.rows.iter().try_for_each(|row| line(f, row, &widths))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if i == 0 { write!(f, "| {cell:<width$} |")? } else { write!(f, " {cell:>width$} |")? }
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("Speed", &["run", "rows/s"]);
        table.row(["bare loop".into(), "3".into()]);
        table.note("A note.");
        let wanted = "### Speed\n\n| run       | rows/s |\n| --------- | -----: |\n| bare loop |      3 |\n\nA note.\n";
        assert_eq!(table.to_string(), wanted);
        assert_eq!(Table::skipped("speed", "No wind.").to_string(), "### speed: skipped\n\nNo wind.\n");
    }
}
