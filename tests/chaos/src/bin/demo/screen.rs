//! Lines in two columns; on a terminal with colour and a bar that moves, elsewhere plain.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Cells of the progress bar.
const BAR: usize = 30;
/// A moving line is drawn this often at most.
const FRAME: Duration = Duration::from_millis(40);

/// Where everything is printed.
pub(crate) struct Screen {
    terminal: bool,
    color: bool,
    drawn: Cell<Option<Instant>>,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        let terminal = io::stdout().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none();
        Screen { terminal, color, drawn: Cell::new(None) }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("\n  {}\n", self.bold(text));
    }

    /// A line that the next one of the same label replaces; on a terminal only.
    pub(crate) fn live(&self, label: &str, text: &str) {
        if self.terminal {
            print!("\r\x1b[K  {label:<12}{text}");
            let _ = io::stdout().flush();
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, label: &str, text: &str) {
        let erase = if self.terminal { "\r\x1b[K" } else { "" };
        println!("{erase}  {label:<12}{text}");
    }

    /// A line that stays, with how long it took.
    pub(crate) fn timed(&self, label: &str, text: &str, took: Duration) {
        let took = self.dim(&format!("{:.1} s", took.as_secs_f64()));
        self.line(label, &format!("{text:<54}  {took}"));
    }

    /// A bar that moves.
    pub(crate) fn bar(&self, label: &str, part: f64, text: &str) {
        let due = self.drawn.get().is_none_or(|at| at.elapsed() >= FRAME);
        if self.terminal && due {
            self.drawn.set(Some(Instant::now()));
            self.live(label, &self.bar_text(part, text));
        }
    }

    /// The bar as it stays.
    pub(crate) fn bar_done(&self, label: &str, part: f64, text: &str) {
        self.line(label, &self.bar_text(part, text));
    }

    fn bar_text(&self, part: f64, text: &str) -> String {
        let full = ((part * BAR as f64) as usize).min(BAR);
        let bar = self.cyan(&"█".repeat(full)) + &self.dim(&"░".repeat(BAR - full));
        format!("{bar} {:>3.0} %   {text}", part * 100.0)
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub(crate) fn yellow(&self, text: &str) -> String {
        self.paint("1;33", text)
    }

    fn cyan(&self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
