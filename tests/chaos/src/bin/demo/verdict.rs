//! The table at the end: what is there, and what is not as it must be.

use crate::screen::{Screen, grouped};
use tidegate_chaos::judge::{Tally, Verdict};
use tidegate_chaos::{Failure, Result};

/// An error if anything is missing, twice there or wrong.
pub(crate) fn must_be_complete(verdict: &Verdict) -> Result<()> {
    if verdict.is_complete() {
        return Ok(());
    }
    let examples: String = verdict.examples().map(|e| format!("\n    {e}")).collect();
    Err(Failure::new(format!("the output is not what it must be: {verdict}{examples}")))
}

/// Prints it.
pub(crate) fn print(screen: &Screen, verdict: &Verdict) {
    let head = ["expected", "found", "missing", "duplicate", "wrong"].map(|h| format!("{h:>11}")).concat();
    println!("\n  {:<12}{}", "", screen.dim(&head));
    print_tally(screen, "windows", &verdict.windows);
    print_tally(screen, "dead letters", &verdict.dead_letters);
}

fn print_tally(screen: &Screen, name: &str, tally: &Tally) {
    let cell = |n: usize| format!("{:>11}", grouped(n as u64));
    let good = [tally.expected, tally.found].map(cell).concat();
    let bad = [tally.missing(), tally.duplicate, tally.wrong + tally.extra];
    let bad = bad.map(|n| if n == 0 { screen.green(&cell(n)) } else { screen.red(&cell(n)) }).concat();
    println!("  {name:<12}{good}{bad}");
}
