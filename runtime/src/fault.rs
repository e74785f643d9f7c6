//! Points at which a test can have the process die, wait or stumble.
//!
//! They are always compiled in and cost a look-up where they stand, which is never on the path of a record. The
//! environment variable `FAILPOINTS` switches them on, in the syntax of the crate `fail`: with
//! `FAILPOINTS="snapshot.linked=3*off->return"` the process dies, as by `kill -9`, the fourth time it comes there;
//! `sleep(200)` makes a slow disk.

use crate::error::{Error, Result};

/// All points, in the order in which an epoch meets them; `make chaos` kills at these. A test holds the list against the
/// sources.
pub const POINTS: &[&str] = &[
    "start.locked",
    "start.attempt_written",
    "restore.files_linked",
    "restore.recovered",
    "barrier.collected",
    "snapshot.staged",
    "snapshot.rows_written",
    "snapshot.checkpointed",
    "snapshot.linked",
    "snapshot.acked",
    "sink.before_sync",
    "sink.after_sync",
    "completion.before_write",
    "completion.before_rename",
    "completion.after_rename",
    "publish.before",
    "sink.before_rename",
    "sink.after_rename",
    "publish.after",
    "published.before_rename",
    "collect.before",
    "collect.half_way",
    "collect.after",
];

/// Dies here if a test asked for it. `name` is one of [`POINTS`].
pub fn point(name: &'static str) {
    if fail::eval(name, |_| ()).is_some() {
        die();
    }
}

/// Ends the process as `kill -9` would: no destructor, no flush, no message.
fn die() -> ! {
    // SAFETY: two system calls without pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::process::abort()
}

/// Switches on what the environment variable `FAILPOINTS` names, until the result is dropped.
pub(crate) fn from_environment() -> Result<Option<fail::FailScenario<'static>>> {
    let Some(text) = std::env::var_os("FAILPOINTS") else { return Ok(None) };
    check(&text.to_string_lossy())?;
    Ok(Some(fail::FailScenario::setup()))
}

/// Refuses what the crate `fail` would panic at, and points that nobody comes to.
fn check(text: &str) -> Result<()> {
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let refuse = |why: String| Err(Error::job(format!("FAILPOINTS has '{entry}': {why}")));
        let Some((name, actions)) = entry.split_once('=') else {
            return refuse(format!("it has no action; to have the process die there write '{entry}=return'"));
        };
        if !POINTS.contains(&name.trim()) {
            return refuse(format!(
                "there is no such failpoint as '{name}'; --list-failpoints lists all of them"
            ));
        }
        // What it sets is set once more by the scenario.
        if let Err(why) = fail::cfg(name.trim(), actions) {
            return refuse(format!("{why}; actions are, for example, return, 3*off->return, sleep(200)"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// The names in calls of [`point`] in the files below `dir`.
    fn called_below(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                called_below(&path, names);
            } else {
                let source = fs::read_to_string(&path).unwrap();
                let calls = source.split("point(\"").skip(1);
                names.extend(calls.map(|call| call.split('"').next().unwrap().to_owned()));
            }
        }
    }

    /// A point that is not in the list would never be killed at; one that is only there would never be come to.
    #[test]
    fn the_list_has_the_points_of_the_sources_and_no_others() {
        let root = Path::new("..");
        let mut called = BTreeSet::new();
        ["runtime/src", "connectors/src"].iter().for_each(|dir| called_below(&root.join(dir), &mut called));
        assert_eq!(called, POINTS.iter().map(|name| (*name).to_owned()).collect());
    }

    #[test]
    fn what_cannot_be_switched_on_is_refused_with_the_reason() {
        for (text, why) in [
            ("start.locked", "'start.locked=return'"),
            ("start.loked=return", "no such failpoint as 'start.loked'"),
            ("snapshot.acked=off; start.locked=explode", "3*off->return"),
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        check(" ; snapshot.acked=off;").unwrap();
    }
}
