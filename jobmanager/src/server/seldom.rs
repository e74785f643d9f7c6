//! Lines of the log that anybody can cause who reaches the port: few, however many connections there are, and whoever opens
//! them.

use std::fmt;
use std::time::{Duration, Instant};

/// The least time between two lines about the same thing.
const BETWEEN: Duration = Duration::from_secs(10);

/// How often one thing has happened, and when it was logged.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    logged: Option<Instant>,
    /// How often it has happened since then.
    more: u64,
}

/// How often something has happened that is not in the log. It is shown behind a line about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct More(u64);

impl Seldom {
    /// It has happened. None if a line about it has to wait.
    pub(super) fn happened(&mut self, now: Instant) -> Option<More> {
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < BETWEEN) {
            self.more += 1;
            return None;
        }
        self.logged = Some(now);
        Some(More(std::mem::take(&mut self.more)))
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more since the last line about it)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_and_then_one_line_in_ten_seconds_with_the_number_of_the_others() {
        let (mut seldom, began) = (Seldom::default(), Instant::now());
        let mut lines = Vec::new();
        for ms in (0..25_000).step_by(10) {
            let line = seldom.happened(began + Duration::from_millis(ms));
            lines.extend(line.map(|more| (ms, more)));
        }
        assert_eq!(lines, [(0, More(0)), (10_000, More(999)), (20_000, More(999))]);
        let later = seldom.happened(began + Duration::from_secs(3600)).unwrap();
        assert_eq!(format!("refused{later}"), "refused (499 more since the last line about it)");
        assert_eq!(format!("refused{}", More(0)), "refused");
    }
}
