//! Which fault comes next, drawn from the seed alone.
//!
//! Faults come in an order by chance, each of them once before any comes again. What a fault hits depends on what runs when
//! it comes; the draw has the numbers by which it is chosen.

use crate::cluster::fault::{Fault, Need};
use crate::rng::Rng;
use std::time::Duration;

/// The longest quiet time before a fault.
const QUIET: Duration = Duration::from_secs(3);
/// A short pause is no longer than this, about twice the time after which a silent process is taken for lost.
const SHORT_PAUSE: Duration = Duration::from_secs(6);
/// A long one is longer than all timeouts by so much at least, and at most twice that.
const BEYOND: Duration = Duration::from_millis(1_500);
/// The longest delay before what was killed is started again.
const DOWN: Duration = Duration::from_secs(3);
/// The longest time from a fault to the one that comes on top of it.
const ON_TOP: Duration = Duration::from_millis(1_500);

/// One fault, with all that chance decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// The kind.
    pub fault: Fault,
    /// The job is left in peace for so long before.
    pub quiet: Duration,
    /// How long something that lasts lasts.
    pub span: Duration,
    /// How long something that was killed stays down.
    pub down: Duration,
    /// Chooses among what is there.
    pub dice: [u64; 4],
    /// A kill that comes so long after the fault, while the cluster recovers.
    pub on_top: Option<(Duration, Fault)>,
}

/// Draws faults.
pub struct Schedule {
    rng: Rng,
    faults: Vec<Fault>,
    bag: Vec<Fault>,
    timeouts: Timeouts,
}

/// What the spans of faults follow from.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The longest timeout of the cluster.
    pub away: Duration,
    /// How long the checkpoint store is away.
    pub store_away: Duration,
    /// The timeout of transactions.
    pub transaction: Duration,
}

impl Schedule {
    /// Over these faults.
    pub fn new(seed: u64, faults: Vec<Fault>, timeouts: Timeouts) -> Schedule {
        Schedule { rng: Rng::new(seed), faults, bag: Vec::new(), timeouts }
    }

    /// The next fault; None if there are none at all.
    pub fn draw(&mut self) -> Option<Draw> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.faults);
        }
        if self.bag.is_empty() {
            return None;
        }
        let next = self.rng.below(self.bag.len() as u64) as usize;
        let fault = self.bag.swap_remove(next);
        let quiet = self.rng.span(QUIET);
        let span = self.span_of(fault);
        let down = self.rng.span(DOWN);
        let dice = std::array::from_fn(|_| self.rng.any());
        let kills = [Fault::KillProcess, Fault::KillTaskmanager, Fault::KillJobmanager];
        let on_top = (self.rng.span(ON_TOP), kills[self.rng.below(3) as usize]);
        let on_top = self.rng.chance(25).then_some(on_top);
        Some(Draw { fault, quiet, span, down, dice, on_top })
    }

    fn span_of(&mut self, fault: Fault) -> Duration {
        let is_of_brokers = matches!(fault.need(), Need::Kafka | Need::KafkaNetwork);
        let timeout = if is_of_brokers { self.timeouts.transaction } else { self.timeouts.away };
        let long = timeout + BEYOND + self.rng.span(BEYOND);
        let short = self.rng.span(SHORT_PAUSE);
        let is_long = self.rng.chance(50);
        match fault {
            Fault::StoreAway => self.timeouts.store_away,
            Fault::FullDisk | Fault::PacketLoss | Fault::ClockBack => Duration::from_secs(4) + short,
            _ if is_long => long,
            _ => short,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts() -> Timeouts {
        let [away, store_away, transaction] = [9, 60, 10].map(Duration::from_secs);
        Timeouts { away, store_away, transaction }
    }

    fn schedule(seed: u64) -> Schedule {
        Schedule::new(seed, Fault::all().to_vec(), timeouts())
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let (mut a, mut b) = (schedule(7), schedule(7));
        (0..100).for_each(|_| assert_eq!(a.draw(), b.draw()));
        assert_ne!(schedule(8).draw(), schedule(7).draw());
    }

    #[test]
    fn every_fault_comes_once_before_any_comes_again() {
        let mut schedule = schedule(1);
        for _ in 0..3 {
            let mut drawn: Vec<Fault> =
                Fault::all().iter().map(|_| schedule.draw().expect("a fault").fault).collect();
            drawn.sort();
            assert_eq!(drawn, Fault::all());
        }
    }

    #[test]
    fn without_faults_nothing_is_drawn() {
        assert_eq!(Schedule::new(1, Vec::new(), timeouts()).draw(), None);
    }
}
