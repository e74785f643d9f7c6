//! Scenarios as scripts with golden answers: every file of `tests/scenarios` is what happens, a line each, then `---`, then
//! what the machine answered. `UPDATE_GOLDEN=1` writes the answers anew.
//!
//! ```text
//! start attempt 1 [restored E] [older E,E,..] [last E] [writers N] [interval MS|none] [timeout MS] [retain N]
//! new attempt 1 ...           as above, with the workers not yet running
//! started [restored E] [older E,E,..] [last E]
//! tick MS                     the time of this line and of those that follow
//! ack SLOT epoch E            `attempt A` may follow here and below; the current one if not
//! decline SLOT epoch E because REASON
//! committed epoch E [finished]
//! refused epoch E [finished] because REASON
//! published epoch E
//! ended SLOT                  all sources of the worker have ended
//! stop
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_control::invariants::check_step;
use tidegate_control::{Action, CheckpointSettings, Control, Input, LedgerEntry, Time};
use tidegate_protocol::{Attempt, Epoch, Slot};

const SEPARATOR: &str = "---\n";

#[test]
fn scenarios_give_the_golden_answers() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let scripts = scripts();
    assert!(scripts.len() >= 10, "the scenarios are gone");
    let differences: Vec<String> = scripts.iter().filter_map(|path| difference(path, update)).collect();
    assert!(differences.is_empty(), "{}(UPDATE_GOLDEN=1 takes the new answers)", differences.concat());
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new("tests/scenarios");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    scripts.sort();
    scripts
}

/// What differs from the golden answers; with `update`, nothing ever does again.
fn difference(path: &Path, update: bool) -> Option<String> {
    let text = fs::read_to_string(path).unwrap();
    let (script, golden) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
    let answers = Runner::run(script);
    if answers == golden {
        return None;
    }
    if update {
        fs::write(path, [script, SEPARATOR, &answers].concat()).unwrap();
        return None;
    }
    Some(format!("{}\n{}\n", path.display(), diff(golden, &answers)))
}

/// Lines that only the golden answers have behind `-`, lines that only the new ones have behind `+`.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

/// A machine and the time of the script.
struct Runner {
    control: Control,
    attempt: Attempt,
    now: Time,
}

impl Runner {
    fn run(script: &str) -> String {
        let mut runner = Self {
            control: Control::new(CheckpointSettings::default(), Attempt(0)),
            attempt: Attempt(0),
            now: Time(0),
        };
        let lines = script.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut answers: String =
            lines.map(|line| format!("{line:<34} -> {}\n", runner.line(line))).collect();
        answers.push_str(&format!("{:<34} -> {}\n", "end", runner.end()));
        answers
    }

    fn line(&mut self, line: &str) -> String {
        let line = Line(line);
        if let "new" | "start" = line.verb() {
            self.attempt = Attempt(line.number("attempt").expect("an attempt has a number"));
            self.control = Control::new(settings(&line), self.attempt);
            if line.verb() == "new" {
                return "-".to_owned();
            }
        }
        if line.verb() == "tick" {
            self.now = Time(line.subject());
        }
        self.step(line.input(self.attempt))
    }

    fn step(&mut self, input: Input) -> String {
        let (before, mut actions) = (self.control.clone(), Vec::new());
        self.control.step(self.now, input.clone(), &mut actions);
        check_step(&before, &input, &actions, &self.control).unwrap();
        let words: Vec<String> = actions.iter().map(Action::to_string).collect();
        if words.is_empty() { "-".to_owned() } else { words.join("; ") }
    }

    fn end(&self) -> String {
        let phase = self.control.phase().map_or("idle".to_owned(), |phase| phase.to_string());
        let deadline = self.control.deadline().map_or("none".to_owned(), |deadline| deadline.to_string());
        format!("{phase}, deadline {deadline}, dropped {}", self.control.dropped())
    }
}

fn settings(line: &Line<'_>) -> CheckpointSettings {
    let usual = CheckpointSettings::default();
    CheckpointSettings {
        interval_ms: line.after("interval").map_or(usual.interval_ms, |word| word.parse().ok()),
        timeout_ms: line.number("timeout").unwrap_or(usual.timeout_ms),
        retain: line.number("retain").unwrap_or(usual.retain),
        writers: line.number("writers").unwrap_or(usual.writers),
    }
}

fn epochs(words: &str) -> Vec<Epoch> {
    words.split(',').map(|word| Epoch(word.parse().expect("an epoch is a number"))).collect()
}

/// One line of a script.
struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    fn verb(&self) -> &'a str {
        self.0.split(' ').next().unwrap()
    }

    fn after(&self, key: &str) -> Option<&'a str> {
        self.0.split(' ').skip_while(|word| *word != key).nth(1)
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        let word = self.after(key)?;
        Some(word.parse().unwrap_or_else(|_| panic!("{word} is no number: {}", self.0)))
    }

    /// The number right behind the verb.
    fn subject<N: std::str::FromStr>(&self) -> N {
        self.number(self.verb()).unwrap_or_else(|| panic!("a number is missing: {}", self.0))
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.number("epoch").unwrap_or_else(|| panic!("the epoch is missing: {}", self.0)))
    }

    fn reason(&self) -> String {
        self.0.split_once(" because ").expect("a refusal has a reason").1.to_owned()
    }

    fn record(&self, attempt: Attempt) -> LedgerEntry {
        let finished = self.0.split(' ').any(|word| word == "finished");
        LedgerEntry::Completed { attempt, epoch: self.epoch(), finished }
    }

    fn input(&self, current: Attempt) -> Input {
        let attempt = self.number("attempt").map_or(current, Attempt);
        match self.verb() {
            "start" | "started" => Input::Started {
                restored: self.number("restored").map(Epoch),
                older: self.after("older").map_or(Vec::new(), epochs),
                last_epoch: Epoch(self.number("last").unwrap_or(0)),
            },
            "ack" => Input::Acked { attempt, epoch: self.epoch(), slot: Slot(self.subject()) },
            "decline" => {
                let (epoch, slot) = (self.epoch(), Slot(self.subject()));
                Input::Declined { attempt, epoch, slot, reason: self.reason() }
            }
            "committed" => Input::Committed(self.record(attempt)),
            "refused" => Input::Refused { record: self.record(attempt), reason: self.reason() },
            "published" => Input::Published { attempt, epoch: self.epoch() },
            "ended" => Input::SourcesEnded { attempt, slot: Slot(self.subject()) },
            "stop" => Input::StopRequested,
            "tick" => Input::Tick,
            verb => panic!("no such line: {verb}"),
        }
    }
}
