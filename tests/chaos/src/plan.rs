//! What happens to the next run, drawn from the seed alone.

use crate::failure::{Failure, Result};
use crate::options::Options;
use crate::rng::Rng;
use std::fmt;
use std::time::Duration;

/// Instants are drawn from a span no shorter than this, or a run would never complete a checkpoint.
const LONGEST_MIN: Duration = Duration::from_millis(400);

/// Where every step sleeps, it does so for this long.
const ALL_SLOW_MS: u64 = 20;

/// How a run is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// kill -9 at this age; where snapshots are refused, so long after the first that is not.
    At(Duration),
    /// The process aborts itself when it passes a failpoint once more after so many times.
    Failpoint(String, u64),
    /// It is asked to stop at this age.
    Stop(Duration),
}

impl Fate {
    /// The age at which something comes from outside; zero where nothing does.
    pub fn age(&self) -> Duration {
        match self {
            Fate::At(age) | Fate::Stop(age) => *age,
            Fate::Failpoint(..) => Duration::ZERO,
        }
    }
}

/// One run's parallelism, memory, way between workers, fate and drag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Workers.
    pub parallelism: usize,
    /// True if the job gets so little memory that its state does not fit.
    pub tight: bool,
    /// True if what goes from worker to worker travels as bytes.
    pub wire: bool,
    /// How it ends.
    pub fate: Fate,
    /// A failpoint that sleeps for so many milliseconds each time.
    pub slow: Option<(String, u64)>,
    /// So many snapshots are refused by the disk.
    pub refused: u64,
}

impl Plan {
    /// The value of FAILPOINTS.
    pub fn failpoints(&self) -> String {
        let mut all = Vec::new();
        if let Fate::Failpoint(name, 0) = &self.fate {
            all.push(format!("{name}=return"));
        } else if let Fate::Failpoint(name, passes) = &self.fate {
            all.push(format!("{name}={passes}*off->return"));
        }
        if let Some((name, ms)) = &self.slow {
            all.push(format!("{name}=sleep({ms})"));
        }
        all.join(";")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fate {
            Fate::At(age) => write!(f, "at {:.2} s", age.as_secs_f64())?,
            Fate::Failpoint(name, passes) => write!(f, "at {name}, pass {}", passes + 1)?,
            Fate::Stop(age) => write!(f, "by SIGTERM at {:.2} s", age.as_secs_f64())?,
        }
        write!(f, ", parallelism {}", self.parallelism)?;
        if self.tight {
            write!(f, ", little memory")?;
        }
        if self.wire {
            write!(f, ", over the wire")?;
        }
        if let Some((name, ms)) = &self.slow {
            write!(f, ", {name} slow by {ms} ms")?;
        }
        if self.refused > 0 {
            write!(f, ", refused snapshots: {}", self.refused)?;
        }
        Ok(())
    }
}

/// Draws plans. Failpoints come off a shuffled deck, so that each gets its turn.
pub struct Planner {
    rng: Rng,
    parallelism: Vec<usize>,
    failpoints: Vec<String>,
    deck: Vec<String>,
    slow_disk: bool,
    refuse: u64,
    wire: u64,
    longest: Duration,
}

impl Planner {
    /// Draws by the options' seed.
    pub fn new(options: &Options, failpoints: Vec<String>) -> Planner {
        Planner {
            rng: Rng::new(options.seed),
            parallelism: options.parallelism.clone(),
            failpoints,
            deck: Vec::new(),
            slow_disk: options.slow_disk,
            refuse: options.refuse,
            wire: options.wire,
            longest: LONGEST_MIN,
        }
    }

    /// `whole` is the time of an undisturbed run: a round is to see several kills.
    pub fn scale(&mut self, whole: Duration) {
        self.longest = (whole / 4).max(LONGEST_MIN);
    }

    /// The next run's plan.
    pub fn draw(&mut self) -> Plan {
        let parallelism = self.parallelism();
        let refused = if self.rng.chance(self.refuse) { 1 + self.rng.below(3) } else { 0 };
        let fate = if refused > 0 { Fate::At(self.instant()) } else { self.fate() };
        let slow = if self.slow_disk && self.rng.chance(33) { self.slow(&fate) } else { None };
        let tight = self.rng.chance(25);
        let wire = self.rng.chance(self.wire);
        Plan { parallelism, tight, wire, fate, slow, refused }
    }

    /// A failpoint that the run did not come to gets another turn, next.
    pub fn again(&mut self, failpoint: &str) {
        self.deck.push(failpoint.into());
    }

    /// Some parallelism.
    pub fn parallelism(&mut self) -> usize {
        self.rng.pick(&self.parallelism).copied().unwrap_or(1)
    }

    /// The chance behind it all, for choices that are not a plan's.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Half of the runs end at a failpoint, if there are any, one in ten is asked to stop. Of the others one in three
    /// is so short that it ends while starting or restoring.
    fn fate(&mut self) -> Fate {
        if self.rng.chance(50)
            && let Some(name) = self.turn()
        {
            let passes = if self.rng.chance(60) { 0 } else { self.rng.below(8) };
            return Fate::Failpoint(name, passes);
        }
        if self.rng.chance(20) { Fate::Stop(self.instant()) } else { Fate::At(self.instant()) }
    }

    /// An age to kill at.
    pub fn instant(&mut self) -> Duration {
        let short = self.rng.chance(33);
        self.rng.span(if short { Duration::from_millis(150) } else { self.longest })
    }

    /// The next failpoint of the deck.
    fn turn(&mut self) -> Option<String> {
        if self.deck.is_empty() {
            self.deck = self.failpoints.clone();
            for i in (1..self.deck.len()).rev() {
                self.deck.swap(i, self.rng.below(i as u64 + 1) as usize);
            }
        }
        self.deck.pop()
    }

    /// The value of FAILPOINTS with which every step sleeps.
    pub fn all_slow(&self) -> Result<String> {
        if self.failpoints.is_empty() {
            return Err(Failure::new("a slow disk needs --failpoints: its steps are what sleeps"));
        }
        let all = self.failpoints.iter().map(|name| format!("{name}=sleep({ALL_SLOW_MS})"));
        Ok(all.collect::<Vec<_>>().join(";"))
    }

    /// The failpoint that kills cannot sleep too.
    fn slow(&mut self, fate: &Fate) -> Option<(String, u64)> {
        let name = self.rng.pick(&self.failpoints)?.clone();
        let ms = 20 + self.rng.below(230);
        let taken = matches!(fate, Fate::Failpoint(other, _) if *other == name);
        (!taken).then_some((name, ms))
    }
}

/// The failpoints that the options name, out of those that the job lists.
pub fn chosen(names: &[String], list: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
    if names == ["none"] {
        return Ok(Vec::new());
    }
    let listed = list()?;
    if listed.is_empty() {
        return Err(Failure::new(
            "the job lists no failpoints: build it with them, or give --failpoints none",
        ));
    }
    if names == ["all"] {
        return Ok(listed);
    }
    match names.iter().find(|name| !listed.contains(name)) {
        None => Ok(names.to_vec()),
        Some(name) => {
            Err(Failure::new(format!("the job has no failpoint {name}, it has {}", listed.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner(seed: u64) -> Planner {
        let names = vec!["a".into(), "b".into(), "c".into()];
        let options = Options { seed, slow_disk: true, ..Options::default() };
        Planner::new(&options, names)
    }

    #[test]
    fn the_same_seed_draws_the_same_plans() {
        let draw = |seed| {
            let mut planner = planner(seed);
            (0..100).map(|_| planner.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn every_failpoint_gets_its_turn() {
        let mut planner = planner(1);
        let mut turns = [planner.turn(), planner.turn(), planner.turn()].map(Option::unwrap_or_default);
        turns.sort();
        assert_eq!(turns, ["a", "b", "c"]);
    }

    #[test]
    fn failpoints_are_written_as_the_crate_fail_reads_them() {
        let slow = Some(("b".into(), 200));
        let plan = |fate| {
            let slow = slow.clone();
            Plan { parallelism: 1, tight: false, wire: false, fate, slow, refused: 0 }.failpoints()
        };
        assert_eq!(plan(Fate::Failpoint("a".into(), 3)), "a=3*off->return;b=sleep(200)");
        assert_eq!(plan(Fate::Failpoint("a".into(), 0)), "a=return;b=sleep(200)");
        assert_eq!(plan(Fate::At(Duration::ZERO)), "b=sleep(200)");
    }
}
