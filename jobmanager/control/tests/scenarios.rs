//! Scenarios as golden scripts: every file of `tests/scenarios` is what happens, a command each, then `---`, then what the
//! machine answered. `UPDATE_GOLDENFILES=1` writes the answers anew.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use goldenscript::{Block, Context};
use tidegate_control::invariants::check_step;
use tidegate_control::{Action, CheckpointSettings, Control, Input, LedgerEntry, Time};
use tidegate_protocol::{Attempt, Epoch, Slot};

#[test]
fn scenarios_give_the_golden_answers() {
    let scripts = scripts();
    assert!(scripts.len() >= 10, "the scenarios are gone");
    for script in scripts {
        let ran = goldenscript::run(&mut Runner::new(), &script);
        ran.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new("tests/scenarios");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    scripts.sort();
    scripts
}

/// A command of a script. Where an attempt may be given, it is the current one if it is not.
#[derive(goldenscript::Command)]
enum Command {
    /// A machine whose workers run. Example: start attempt=1 restored=7 older="5,6" last=7 writers=2
    Start {
        #[arg(key)]
        attempt: u32,
        #[arg(key)]
        restored: Option<u64>,
        #[arg(key, optional)]
        older: Epochs,
        #[arg(key, optional)]
        last: u64,
        #[arg(key)]
        writers: Option<u32>,
        /// Milliseconds, or `none`.
        #[arg(key)]
        interval: Option<String>,
        /// Milliseconds.
        #[arg(key)]
        slow: Option<u64>,
        #[arg(key)]
        retain: Option<usize>,
    },
    /// What else is set for the machines that follow. Example: set timeout=5000 pause=100 tolerable=1
    Set {
        /// Milliseconds.
        #[arg(key)]
        timeout: Option<u64>,
        /// Milliseconds.
        #[arg(key)]
        pause: Option<u64>,
        #[arg(key)]
        tolerable: Option<u32>,
    },
    /// A machine whose workers do not run yet. Example: new attempt=1 writers=2
    New {
        #[arg(key)]
        attempt: u32,
        #[arg(key)]
        writers: Option<u32>,
        #[arg(key)]
        interval: Option<String>,
        #[arg(key)]
        slow: Option<u64>,
        #[arg(key)]
        retain: Option<usize>,
    },
    /// All workers of a new machine run. Example: started restored=7 last=7
    Started {
        #[arg(key)]
        restored: Option<u64>,
        #[arg(key, optional)]
        older: Epochs,
        #[arg(key, optional)]
        last: u64,
    },
    /// The time of this command and of those that follow, in milliseconds. Example: tick 1000
    Tick(u64),
    /// A worker has written its part. Example: ack 0 epoch=1
    Ack {
        slot: u32,
        #[arg(key)]
        epoch: u64,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// A worker could not write its part. Example: decline 0 epoch=1 because="no space"
    Decline {
        slot: u32,
        #[arg(key)]
        epoch: u64,
        #[arg(key)]
        because: String,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// The snapshot is complete. Example: committed epoch=1 finished=true
    Committed {
        #[arg(key)]
        epoch: u64,
        #[arg(key, optional)]
        finished: bool,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// The snapshot could not be completed. Example: refused epoch=1 because="no space"
    Refused {
        #[arg(key)]
        epoch: u64,
        #[arg(key, optional)]
        finished: bool,
        #[arg(key)]
        because: String,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// All output of an epoch is visible. Example: published epoch=1
    Published {
        #[arg(key)]
        epoch: u64,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// All sources of a worker have ended. Example: ended 0
    Ended {
        slot: u32,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// Messages of workers may be lost. Example: lost "a new connection"
    Lost(String),
    /// Somebody asks for a checkpoint.
    Request,
    /// Somebody asks for a stop.
    Stop,
}

/// Epochs with commas in between.
#[derive(Clone, Default)]
struct Epochs(Vec<Epoch>);

impl FromStr for Epochs {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|epoch| epoch.parse().map(Epoch)).collect::<Result<_, _>>().map(Self)
    }
}

/// A command, and how it is written.
struct Line {
    text: String,
    command: Command,
}

impl TryFrom<&goldenscript::Command> for Line {
    type Error = Box<dyn Error>;

    fn try_from(command: &goldenscript::Command) -> Result<Self, Self::Error> {
        Ok(Self { text: command.to_string(), command: command.try_into()? })
    }
}

/// A machine and the time of the script.
struct Runner {
    /// The settings of machines, but for what their command says.
    usual: CheckpointSettings,
    control: Control,
    attempt: Attempt,
    now: Time,
}

impl goldenscript::Runner for Runner {
    type Command = Line;

    fn run(&mut self, line: &Line, _: &Context) -> Result<String, Box<dyn Error>> {
        let answer = match self.input(&line.command) {
            Some(input) => self.step(input)?,
            None => "-".to_owned(),
        };
        Ok(format!("{:<34} -> {answer}", line.text))
    }

    fn end_block(&mut self, _: &Block) -> Result<String, Box<dyn Error>> {
        let phase = self.control.phase().map_or("idle".to_owned(), |phase| phase.to_string());
        let deadline = self.control.deadline().map_or("none".to_owned(), |deadline| deadline.to_string());
        let dropped = self.control.dropped();
        Ok(format!("{:<34} -> {phase}, deadline {deadline}, dropped {dropped}", "end"))
    }
}

impl Runner {
    fn new() -> Self {
        let control = Control::new(CheckpointSettings::default(), Attempt(0));
        Self { usual: CheckpointSettings::default(), control, attempt: Attempt(0), now: Time(0) }
    }

    /// What a command means for the machine; None for a new machine, to which nothing has happened.
    fn input(&mut self, command: &Command) -> Option<Input> {
        let of = |attempt: &Option<u32>, current: Attempt| attempt.map_or(current, Attempt);
        let current = self.attempt;
        Some(match command {
            Command::Set { timeout, pause, tolerable } => {
                self.usual.timeout_ms = *timeout;
                self.usual.min_pause_ms = pause.unwrap_or(0);
                self.usual.tolerable_failures = *tolerable;
                return None;
            }
            Command::New { attempt, writers, interval, slow, retain } => {
                self.begin(*attempt, self.settings(*writers, interval.as_deref(), *slow, *retain));
                return None;
            }
            Command::Start { attempt, restored, older, last, writers, interval, slow, retain } => {
                self.begin(*attempt, self.settings(*writers, interval.as_deref(), *slow, *retain));
                started(*restored, older, *last)
            }
            Command::Started { restored, older, last } => started(*restored, older, *last),
            Command::Tick(ms) => {
                self.now = Time(*ms);
                Input::Tick
            }
            Command::Ack { slot, epoch, attempt } => {
                Input::Acked { attempt: of(attempt, current), epoch: Epoch(*epoch), slot: Slot(*slot) }
            }
            Command::Decline { slot, epoch, because, attempt } => Input::Declined {
                attempt: of(attempt, current),
                epoch: Epoch(*epoch),
                slot: Slot(*slot),
                reason: because.clone(),
            },
            Command::Committed { epoch, finished, attempt } => {
                Input::Committed(entry(of(attempt, current), *epoch, *finished))
            }
            Command::Refused { epoch, finished, because, attempt } => Input::Refused {
                record: entry(of(attempt, current), *epoch, *finished),
                reason: because.clone(),
            },
            Command::Published { epoch, attempt } => {
                Input::Published { attempt: of(attempt, current), epoch: Epoch(*epoch) }
            }
            Command::Ended { slot, attempt } => {
                Input::SourcesEnded { attempt: of(attempt, current), slot: Slot(*slot) }
            }
            Command::Lost(reason) => Input::MessagesLost { reason: reason.clone() },
            Command::Request => Input::CheckpointRequested,
            Command::Stop => Input::StopRequested,
        })
    }

    fn begin(&mut self, attempt: u32, settings: CheckpointSettings) {
        self.attempt = Attempt(attempt);
        self.control = Control::new(settings, self.attempt);
    }

    fn settings(
        &self,
        writers: Option<u32>,
        interval: Option<&str>,
        slow: Option<u64>,
        retain: Option<usize>,
    ) -> CheckpointSettings {
        let usual = self.usual.clone();
        CheckpointSettings {
            interval_ms: match interval {
                Some("none") => None,
                Some(ms) => Some(ms.parse().expect("an interval is a number of milliseconds, or none")),
                None => usual.interval_ms,
            },
            slow_ms: slow.unwrap_or(usual.slow_ms),
            retain: retain.unwrap_or(usual.retain),
            writers: writers.unwrap_or(usual.writers),
            ..usual
        }
    }

    fn step(&mut self, input: Input) -> Result<String, Box<dyn Error>> {
        let (before, mut actions) = (self.control.clone(), Vec::new());
        self.control.step(self.now, input.clone(), &mut actions);
        check_step(&before, &input, &actions, &self.control).map_err(|violation| format!("{violation:?}"))?;
        let words: Vec<String> = actions.iter().map(Action::to_string).collect();
        Ok(if words.is_empty() { "-".to_owned() } else { words.join("; ") })
    }
}

fn started(restored: Option<u64>, older: &Epochs, last: u64) -> Input {
    Input::Started { restored: restored.map(Epoch), older: older.0.clone(), last_epoch: Epoch(last) }
}

fn entry(attempt: Attempt, epoch: u64, finished: bool) -> LedgerEntry {
    LedgerEntry::Completed { attempt, epoch: Epoch(epoch), finished }
}
