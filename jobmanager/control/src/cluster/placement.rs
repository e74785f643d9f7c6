//! Where the processes of an attempt run.
//!
//! All processes of an attempt have the same number of workers: timely numbers workers by process, `process * workers +
//! worker`. So 3 workers on two hosts are three processes of one worker. Of the ways to divide the workers, the one is taken
//! that has the fewest processes on one host, then the one on the most hosts (spread over hosts), then the one with the
//! fewest processes. Among hosts, those that ran the last attempt come first, because they have its state files, and those
//! on which a process has failed before it ran come last; then those with the most free slots.

use serde::{Deserialize, Serialize};
use tidegate_protocol::{Slot, TaskManagerId};

/// Free slots of a taskmanager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The taskmanager.
    pub taskmanager: TaskManagerId,
    /// The number of workers that there is room for.
    pub free: u32,
    /// What is known of it.
    pub rank: Rank,
}

/// How much is to be said for a host; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It ran processes of the last attempt.
    Preferred,
    /// Nothing is known of it.
    Other,
    /// Since the last checkpoint a process could not be started there: its disk may be full, or an input not be mounted.
    Avoided,
}

/// A process of an attempt, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The taskmanager.
    pub taskmanager: TaskManagerId,
    /// The slot of its first worker.
    pub first: Slot,
    /// The number of its workers.
    pub workers: u32,
}

/// Places the workers of an attempt; None if there are not enough free slots. Hosts that are to be avoided are used if there are
/// not enough others.
pub fn place(parallelism: u32, offers: &[Offer]) -> Option<Vec<Placed>> {
    let mut offers: Vec<&Offer> = offers.iter().filter(|offer| offer.free > 0).collect();
    offers.sort_by_key(|offer| (offer.rank, std::cmp::Reverse(offer.free), offer.taskmanager.clone()));
    let good = offers.partition_point(|offer| offer.rank < Rank::Avoided);
    spread(parallelism, &offers[..good]).or_else(|| spread(parallelism, &offers))
}

/// Spreads workers over hosts, the best first; None if there is not enough room.
fn spread(parallelism: u32, offers: &[&Offer]) -> Option<Vec<Placed>> {
    let divisors = (1..=parallelism).filter(|workers| parallelism.is_multiple_of(*workers));
    let divided =
        divisors.filter_map(|workers| Some((workers, divide(parallelism / workers, workers, offers)?)));
    let (workers, counts) = divided.min_by_key(|(_, counts)| {
        let most = counts.iter().max().copied().unwrap_or(0);
        let hosts = counts.iter().filter(|count| **count > 0).count();
        (most, std::cmp::Reverse(hosts), counts.iter().sum::<u32>())
    })?;
    let hosts =
        offers.iter().zip(counts).flat_map(|(offer, count)| (0..count).map(|_| offer.taskmanager.clone()));
    let placed = hosts.enumerate().map(|(i, taskmanager)| {
        let first = Slot(i as u32 * workers);
        Placed { taskmanager, first, workers }
    });
    Some(placed.collect())
}

/// How many of so many processes each host gets, in turns; None if there is not enough room.
fn divide(processes: u32, workers: u32, offers: &[&Offer]) -> Option<Vec<u32>> {
    let mut counts = vec![0; offers.len()];
    let mut left = processes;
    while left > 0 {
        let before = left;
        for (count, offer) in counts.iter_mut().zip(offers) {
            if left > 0 && (*count + 1) * workers <= offer.free {
                *count += 1;
                left -= 1;
            }
        }
        if left == before {
            return None;
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offers(free: &[u32]) -> Vec<Offer> {
        let offer = |(i, free): (usize, &u32)| Offer {
            taskmanager: TaskManagerId(format!("tm-{i}")),
            free: *free,
            rank: Rank::Other,
        };
        free.iter().enumerate().map(offer).collect()
    }

    /// The placement as `host:workers`, in the order of the processes.
    fn placed(parallelism: u32, free: &[u32]) -> String {
        let Some(placed) = place(parallelism, &offers(free)) else { return "none".to_owned() };
        let show = |p: &Placed| format!("{}:{}", p.taskmanager, p.workers);
        placed.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn workers_are_spread_over_hosts_in_few_processes_of_one_size() {
        assert_eq!(placed(4, &[2, 2, 2]), "tm-0:2 tm-1:2");
        assert_eq!(placed(2, &[2, 2]), "tm-0:1 tm-1:1");
        assert_eq!(placed(3, &[2, 2]), "tm-0:1 tm-0:1 tm-1:1");
        assert_eq!(placed(6, &[2, 2, 2]), "tm-0:2 tm-1:2 tm-2:2");
        assert_eq!(placed(4, &[4]), "tm-0:4");
        assert_eq!(placed(4, &[3, 1]), "tm-0:1 tm-0:1 tm-0:1 tm-1:1");
        assert_eq!(placed(1, &[0, 5, 9]), "tm-2:1");
        assert_eq!(placed(5, &[2, 2]), "none");
        assert_eq!(placed(1, &[]), "none");
    }

    #[test]
    fn hosts_of_the_last_attempt_come_first() {
        let mut offers = offers(&[4, 2, 4]);
        offers[1].rank = Rank::Preferred;
        let placed = place(1, &offers).unwrap();
        assert_eq!(placed[0].taskmanager, offers[1].taskmanager);
        (offers[0].rank, offers[1].rank) = (Rank::Avoided, Rank::Avoided);
        let hosts = |parallelism| -> Vec<String> {
            let placed = place(parallelism, &offers).unwrap().into_iter();
            placed.map(|placed| placed.taskmanager.0).collect()
        };
        assert_eq!(hosts(2), ["tm-2"], "not only to spread over hosts");
        assert_eq!(hosts(6), ["tm-2", "tm-0", "tm-1"], "but if the slots are needed");
    }

    proptest! {
        #[test]
        fn every_worker_has_a_slot_if_there_are_enough(
            parallelism in 1u32..40,
            free in proptest::collection::vec(0u32..9, 0..6),
        ) {
            let Some(placed) = place(parallelism, &offers(&free)) else {
                prop_assert!(parallelism > free.iter().sum());
                return Ok(());
            };
            let workers = placed[0].workers;
            for (i, process) in placed.iter().enumerate() {
                prop_assert_eq!((process.first, process.workers), (Slot(i as u32 * workers), workers));
            }
            prop_assert_eq!(placed.len() as u32 * workers, parallelism);
            for (i, free) in free.iter().enumerate() {
                let name = TaskManagerId(format!("tm-{i}"));
                          let used: u32 = placed.iter().filter(|p| p.taskmanager == name).map(|p| p.workers).sum();
                prop_assert!(used <= *free);
            }
        }
    }
}
