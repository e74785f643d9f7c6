//! Has an executable describe its job: it is run with `--plan`, and prints the plan.
//!
//! It runs as the user of the taskmanager, in a directory of its own, and has 30 s.

use std::io::Read;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tidegate_protocol::plan::PLAN_VERSION;
use tidegate_protocol::taskmanager::Program;
use tidegate_protocol::{Error, ErrorContext, Plan, Result};

use crate::child::{self, Child, Start, Started};
use crate::data_directory;
use crate::executables::Executables;
use crate::job_process::spawn;

/// How long it may take: less than the jobmanager waits, which could not say why.
const TIMEOUT: Duration = Duration::from_secs(25);
/// How long the output of a program that has ended may still come.
const REST: Duration = Duration::from_secs(1);
/// The longest plan.
const PLAN_BYTES_MAX: usize = 64 << 20;
/// How much of its messages is kept, at the end.
const MESSAGES_BYTES_MAX: usize = 64 << 10;
/// The flag with which a program is run.
const PLAN: &str = "--plan";
/// How clap shows the command line that it expects, with the flags that were given.
const USAGE: &str = "Usage: ";
/// How many characters of something that is no plan are shown.
const SHOWN: usize = 200;

/// What a program has printed, and how it has ended.
struct Printed {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// Runs an executable in a new directory, to describe its job. `started` is told the process.
pub(crate) fn describe(
    executables: &Executables,
    working: &Path,
    program: &Program,
    started: impl FnOnce(&Arc<Child>),
) -> Result<Box<Plan>> {
    let executable = executables.fetch(program)?;
    data_directory::create(working).context(|| format!("create {}", working.display()))?;
    let printed = run(&executable, working, program, started);
    // What cannot be removed is removed at the next start.
    let _ = data_directory::remove(working);
    plan(&program.name, &printed?)
}

fn run(
    executable: &Path,
    working: &Path,
    program: &Program,
    started: impl FnOnce(&Arc<Child>),
) -> Result<Printed> {
    let name = &program.name;
    let arguments = program.arguments.iter().map(Into::into).chain([PLAN.into()]).collect();
    let start = Start {
        executable,
        // For its messages: the path has the hash in place of the name.
        name: Some(name),
        arguments,
        variables: &[],
        working: program.directory_or(working, Path::is_dir),
        socket: None,
    };
    let Started { child, stdout, stderr } = start.start().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOEXEC) => Error::job(format!(
            "{name} is not executable: it is no program for this kind of host, and no script that begins with '#!'"
        )),
        // The interpreter of a script, or the loader of a program, since the file itself is here.
        Some(libc::ENOENT) => Error::job(format!(
            "{name} is not executable: the interpreter or loader that it names is not on this host"
        )),
        _ => Error::from(error).context(format!("execute {name}")),
    })?;
    started(&child);
    let ((out, all_out), (err, all_err), (end, ended)) = (channel(), channel(), channel());
    let (its_child, waited) = (child.clone(), child.clone());
    let threads = [
        spawn("plan stdout", move || {
            let mut text = Vec::new();
            let _ = stdout.take(PLAN_BYTES_MAX as u64 + 1).read_to_end(&mut text);
            if text.len() > PLAN_BYTES_MAX {
                its_child.kill();
            }
            let _ = out.send(text);
        }),
        spawn("plan stderr", move || drop(err.send(tail(stderr)))),
        spawn("plan exit", move || drop(end.send(waited.wait()))),
    ];
    if let Some(error) = threads.into_iter().find_map(Result::err) {
        child.kill();
        return Err(error);
    }
    let Ok(status) = ended.recv_timeout(TIMEOUT) else {
        child.kill();
        return Err(late(name, &all_err.recv_timeout(REST).unwrap_or_default()));
    };
    let stdout = all_out.recv_timeout(REST).unwrap_or_default();
    if stdout.len() > PLAN_BYTES_MAX {
        let megabytes = PLAN_BYTES_MAX >> 20;
        return Err(Error::job(format!("{name} was run with --plan, and printed more than {megabytes} MB")));
    }
    Ok(Printed { status: status?, stdout, stderr: all_err.recv_timeout(REST).unwrap_or_default() })
}

/// A program that waits for something does not say so in its plan; its log does.
fn late(name: &str, stderr: &str) -> Error {
    let seconds = TIMEOUT.as_secs();
    let said = stderr.lines().rfind(|line| !line.trim().is_empty());
    let said = said.map(|line| format!("; its last message: {line}")).unwrap_or_default();
    Error::job(format!("{name} was run with --plan, and has not described its job within {seconds} s{said}"))
}

/// The end of a text.
fn tail(mut from: impl Read) -> String {
    let (mut text, mut buffer) = (Vec::new(), vec![0; MESSAGES_BYTES_MAX]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
        let excess = text.len().saturating_sub(MESSAGES_BYTES_MAX);
        text.drain(..excess);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The plan that was printed, or why there is none.
fn plan(name: &str, printed: &Printed) -> Result<Box<Plan>> {
    #[derive(Deserialize)]
    struct Version {
        plan_version: u32,
    }
    if !printed.status.success() {
        let text = message(&printed.stderr);
        return Err(Error::job(if text.is_empty() {
            format!("{name} was run with --plan, and {}", child::how(printed.status))
        } else if text.lines().any(|line| names_plan(line) && !line.starts_with(USAGE)) {
            format!(
                "{name} is not a Tidegate job: it does not know --plan, by which a job describes itself. It says: {text}"
            )
        } else if is_own(&printed.stderr) {
            text.replace(" --plan\n", "\n")
        } else {
            format!("{name} was run with --plan, and {}: {text}", child::how(printed.status))
        }));
    }
    let no_plan = || {
        let text: String = String::from_utf8_lossy(&printed.stdout).trim().chars().take(SHOWN).collect();
        Error::job(format!(
            "{name} is not a Tidegate job: run with --plan, it printed no plan (exit code 0, it printed '{text}')"
        ))
    };
    let stdout = json(&printed.stdout);
    let version: Version = serde_json::from_slice(stdout).map_err(|_| no_plan())?;
    if version.plan_version != PLAN_VERSION {
        return Err(Error::job(format!(
            "{name} was built with another version of Tidegate: its plan has version {}, this taskmanager reads {PLAN_VERSION}",
            version.plan_version
        )));
    }
    let plan = serde_json::from_slice(stdout);
    plan.map(Box::new).map_err(|error| no_plan().caused_by(error))
}

/// Whether a line is about the flag --plan, and not about a longer one.
fn names_plan(line: &str) -> bool {
    let is_longer = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_');
    line.match_indices(PLAN).any(|(at, flag)| !is_longer(&line[at + flag.len()..]))
}

/// The JSON at the end of what a program has printed: its code may print something, too, while it describes the job.
fn json(stdout: &[u8]) -> &[u8] {
    let begins = |at: &usize| stdout[*at..].starts_with(b"{\n");
    let is_json = |at: &usize| serde_json::from_slice::<IgnoredAny>(&stdout[*at..]).is_ok();
    (0..stdout.len()).filter(begins).find(is_json).map_or(stdout, |at| &stdout[at..])
}

/// Whether a program has printed an error as a Tidegate job does, or its command line.
fn is_own(stderr: &str) -> bool {
    stderr.lines().any(|line| line.starts_with("Error: ") || line.starts_with("error: "))
}

/// The error in what a program has printed: what follows `Error: ` at the beginning of a line, or all of it.
fn message(stderr: &str) -> &str {
    const PREFIX: &str = "Error: ";
    let text = match stderr.rfind(&format!("\n{PREFIX}")) {
        Some(at) => &stderr[at + 1..],
        None => stderr,
    };
    // The second is that of clap, about the command line.
    text.trim().trim_start_matches(PREFIX).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};
    use tidegate_protocol::ErrorKind;

    use super::*;

    /// What describing this executable gives.
    fn described(content: &[u8]) -> Result<Box<Plan>> {
        let directory = tempfile::tempdir().unwrap();
        let (stored, working) = (directory.path().join("executables"), directory.path().join("working"));
        fs::create_dir(&stored).unwrap();
        let path = directory.path().join("orders");
        fs::write(&path, content).unwrap();
        let sha256 = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = path.to_str().unwrap().to_owned();
        let arguments = vec!["--in".to_owned(), "a b".to_owned()];
        let program = Program { name: "orders".to_owned(), sha256, path, arguments, directory: None };
        let result = describe(&Executables::new(stored, Default::default()), &working, &program, |_| {});
        assert!(!working.exists());
        result
    }

    fn error_of(content: &str) -> String {
        let error = described(content.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Job);
        error.to_string()
    }

    #[test]
    fn a_plan_is_read() {
        let plan = Plan { plan_version: PLAN_VERSION, job: "orders".to_owned(), ..Plan::default() };
        let text = serde_json::to_string(&plan).unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1,$2,$3\" = '--in,a b,--plan' ] || exit 9\n[ -z \"$TIDEGATE_TASKMANAGER_SOCKET\" ] || exit 8\n\
             echo some warning >&2\necho '{text}'\n"
        );
        assert_eq!(*described(script.as_bytes()).unwrap(), plan);
        let text = serde_json::to_string_pretty(&plan).unwrap();
        let script = format!("#!/bin/sh\necho '{{'\nprintf building\necho '{text}'\n");
        assert_eq!(*described(script.as_bytes()).unwrap(), plan, "its code has printed something before");
    }

    #[test]
    fn what_a_program_has_said_that_does_not_end_is_shown() {
        let text = late("orders", "starts\ncannot ask the brokers a:1 yet\n\n").to_string();
        let expected = "orders was run with --plan, and has not described its job within 25 s; its last message: cannot ask the brokers a:1 \
                        yet";
        assert_eq!(text, expected);
        assert!(late("orders", "").to_string().ends_with("within 25 s"));
    }

    #[test]
    fn what_is_no_plan_is_explained() {
        assert_eq!(
            error_of("#!/bin/sh\necho 'a warning' >&2; echo 'Error: no such flag' >&2; exit 2\n"),
            "no such flag"
        );
        assert_eq!(
            error_of("#!/bin/sh\necho 'usage: x' >&2; exit 2\n"),
            "orders was run with --plan, and ended with exit code 2: usage: x"
        );
        // What clap prints.
        let script = "#!/bin/sh\nprintf 'error: no --in\\n\\nUsage: orders --in <IN> --plan\\n\\nSee --help\\n' >&2; exit 2\n";
        assert_eq!(error_of(script), "no --in\n\nUsage: orders --in <IN>\n\nSee --help");
        assert_eq!(
            error_of("#!/bin/sh\necho 'error: missing: --planner' >&2; exit 2\n"),
            "missing: --planner"
        );
        let script = "#!/bin/sh\nprintf \"error: unexpected argument '--plan' found\\n\" >&2; exit 2\n";
        assert_eq!(
            error_of(script),
            "orders is not a Tidegate job: it does not know --plan, by which a job describes itself. It says: unexpected \
             argument '--plan' found"
        );
        assert_eq!(error_of("#!/bin/sh\nexit 3\n"), "orders was run with --plan, and ended with exit code 3");
        assert_eq!(
            error_of("#!/bin/sh\nkill -9 $$\n"),
            "orders was run with --plan, and was killed by signal 9 (SIGKILL)"
        );
        assert_eq!(
            error_of("#!/bin/sh\necho hello\n"),
            "orders is not a Tidegate job: run with --plan, it printed no plan (exit code 0, it printed 'hello')"
        );
        assert!(error_of("#!/bin/sh\necho '{\"plan_version\":77}'\n").contains("its plan has version 77"));
        assert!(error_of("#!/bin/sh\necho '{\"plan_version\":1}'\n").contains("is not a Tidegate job"));
        assert!(error_of("echo hello\n").starts_with("orders is not executable: it is no program"));
        assert!(error_of("#!/no/such\n").starts_with("orders is not executable: the interpreter"));
        assert!(error_of("#!/bin/sh\nexec cat /dev/zero\n").contains("printed more than 64 MB"));
    }
}
