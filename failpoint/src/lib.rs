//! Points at which a test can make the process die, sleep or panic.
//!
//! They are always compiled in and cost a look-up where they stand, which is never on the path of a record. The
//! environment variable `FAILPOINTS` switches them on, in the syntax of the crate `fail`: with
//! `FAILPOINTS="snapshot.linked=3*off->return"` the process dies, as by `kill -9`, the fourth time it reaches the point;
//! `sleep(200)` simulates a slow disk.

/// All points, roughly in the order in which a start and an epoch reach them; `make chaos` kills at these. A test compares
/// the list with the source code.
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
    "published.before_write",
    "collect.before",
    "collect.half_way",
    "collect.after",
];

/// Ends the process here if a test asked for it. `name` is one of [`POINTS`].
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

/// Switches on what the environment variable `FAILPOINTS` names, for as long as the process lives.
///
/// # Errors
/// What is wrong with the variable, as a sentence: it must name points of [`POINTS`], each with an action.
pub fn from_environment() -> Result<(), String> {
    let Some(value) = std::env::var_os("FAILPOINTS") else { return Ok(()) };
    // `fail` does not read the variable itself, because it panics at an invalid value and accepts any name as a point.
    let value = value.into_string().map_err(|value| refused(&value.to_string_lossy(), "it is not UTF-8"))?;
    for (name, actions) in parse(&value).map_err(|why| refused(&value, &why))? {
        fail::cfg(name, actions).map_err(|why| refused(&value, &format!("the action of '{name}': {why}")))?;
    }
    Ok(())
}

/// The points and their actions.
fn parse(value: &str) -> Result<Vec<(&str, &str)>, String> {
    let entries = value.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    let entry = |entry: &'_ str| match entry.split_once('=') {
        None => Err(format!("'{entry}' has no action")),
        Some((name, _)) if !POINTS.contains(&name) => {
            Err(format!("'{name}' is not a failpoint; --list-failpoints lists them"))
        }
        Some(_) => Ok(()),
    };
    entries.clone().try_for_each(entry)?;
    Ok(entries.filter_map(|entry| entry.split_once('=')).collect())
}

fn refused(value: &str, why: &str) -> String {
    format!(
        "the environment variable FAILPOINTS={value:?} is invalid: {why}. It is a list NAME=ACTION;NAME=ACTION, for example \
         FAILPOINTS=\"snapshot.linked=return\" (the process dies there) or \"sink.before_sync=sleep(200)\"; unset it to run the \
         job without"
    )
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

    #[test]
    fn an_invalid_list_of_points_with_actions_is_refused() {
        let parsed = parse(" start.locked=off->return ; snapshot.linked=3*sleep(20);").unwrap();
        assert_eq!(parsed, [("start.locked", "off->return"), ("snapshot.linked", "3*sleep(20)")]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("start.locked").unwrap_err(), "'start.locked' has no action");
        let unknown = parse("start.lock=return").unwrap_err();
        assert_eq!(unknown, "'start.lock' is not a failpoint; --list-failpoints lists them");
        let error = refused("start.locked", &parse("start.locked").unwrap_err());
        assert!(
            error.contains("FAILPOINTS=\"start.locked\" is invalid: 'start.locked' has no action. It is"),
            "{error}"
        );
    }

    /// `make chaos` would never kill at a point that is not in the list; a point that is only in the list is never reached.
    #[test]
    fn the_list_has_the_points_of_the_sources_and_no_others() {
        let root = Path::new("..");
        let mut called = BTreeSet::new();
        ["runtime/src", "snapshots/src", "connector-api/src", "connectors/src"]
            .iter()
            .for_each(|dir| called_below(&root.join(dir), &mut called));
        assert_eq!(called, POINTS.iter().map(|name| (*name).to_owned()).collect());
    }
}
