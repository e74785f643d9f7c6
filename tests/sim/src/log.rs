//! The log of a run: what has happened, line by line, with the simulated time.

use std::fmt::Arguments;

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    text: String,
    /// Whether every line is printed at once.
    is_printed: bool,
}

impl Log {
    pub(crate) fn new(is_printed: bool) -> Self {
        Self { text: String::new(), is_printed }
    }

    pub(crate) fn add(&mut self, now: u64, line: Arguments<'_>) {
        use std::fmt::Write;
        let start = self.text.len();
        let (seconds, ms) = (now / 1_000, now % 1_000);
        // A string takes everything.
        let _ = writeln!(self.text, "{seconds:>4}.{ms:03} {line}");
        if self.is_printed {
            print!("{}", &self.text[start..]);
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The last lines.
    pub(crate) fn last(&self, lines: usize) -> &str {
        let ends = self.text.rmatch_indices('\n').map(|(at, _)| at + 1);
        let start = ends.take(lines + 1).last().filter(|_| self.text.lines().count() > lines);
        &self.text[start.unwrap_or(0)..]
    }
}
