//! The counters that were used, by challenge, in bounded memory.
//!
//! A challenge is remembered from its first verified request until it expires. Challenges that were issued before a point in
//! time, the floor, are not accepted, so nothing about them has to be remembered. The floor only rises: as time passes, and,
//! when too many challenges are remembered, above the oldest of them. The client of that one then asks for a new challenge.

use std::collections::BTreeMap;

use crate::challenges::Refused;

/// The most challenges that are remembered.
pub(crate) const CHALLENGES_MAX: usize = 4096;

/// What distinguishes a challenge of one run of the server from all others of that run; ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChallengeId {
    /// Since the start of the server.
    pub(crate) issued_ms: u64,
    pub(crate) random: [u8; 16],
}

/// The used counters of all challenges that are accepted.
#[derive(Debug, Default)]
pub(crate) struct UsedCounters {
    /// Challenges that were issued before are not accepted.
    floor_ms: u64,
    challenges: BTreeMap<ChallengeId, Window>,
}

impl UsedCounters {
    /// Whether a challenge is at or above the floor.
    pub(crate) fn is_accepted(&self, id: &ChallengeId) -> bool {
        id.issued_ms >= self.floor_ms
    }

    /// Forgets the challenges that were issued before a time, and accepts them no longer.
    pub(crate) fn forget_before(&mut self, floor_ms: u64) {
        self.floor_ms = self.floor_ms.max(floor_ms);
        while self.challenges.first_key_value().is_some_and(|(id, _)| id.issued_ms < self.floor_ms) {
            self.challenges.pop_first();
        }
    }

    /// Notes that a counter of a challenge is used, if it was not and the challenge is accepted.
    pub(crate) fn take(&mut self, id: ChallengeId, counter: u64) -> Result<(), Refused> {
        self.make_room(&id);
        if !self.is_accepted(&id) {
            return Err(Refused::Expired);
        }
        let is_new = self.challenges.entry(id).or_default().take(counter);
        if is_new { Ok(()) } else { Err(Refused::Replayed) }
    }

    fn make_room(&mut self, id: &ChallengeId) {
        if self.challenges.len() < CHALLENGES_MAX || self.challenges.contains_key(id) {
            return;
        }
        if let Some((oldest, _)) = self.challenges.first_key_value() {
            self.forget_before(oldest.issued_ms.saturating_add(1));
        }
    }
}

/// The counters of one challenge: the highest, and which of the 64 up to it were used. Lower ones count as used.
#[derive(Debug, Default)]
struct Window {
    highest: u64,
    /// Bit `n` is for `highest - n`.
    used: u64,
}

impl Window {
    /// Whether the counter was not used before; it is from now on.
    fn take(&mut self, counter: u64) -> bool {
        if let Some(ahead) = counter.checked_sub(self.highest) {
            self.used = if ahead < 64 { self.used << ahead } else { 0 };
            self.highest = counter;
        }
        let behind = self.highest - counter;
        let bit = if behind < 64 { 1 << behind } else { 0 };
        let is_new = bit != 0 && self.used & bit == 0;
        self.used |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn id(issued_ms: u64, number: usize) -> ChallengeId {
        ChallengeId { issued_ms, random: (number as u128).to_be_bytes() }
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_not_accepted() {
        let mut used = UsedCounters::default();
        for number in 0..3 * CHALLENGES_MAX {
            assert_eq!(used.take(id(number as u64 / 2, number), 1), Ok(()));
            assert!(used.challenges.len() <= CHALLENGES_MAX);
        }
        for number in 0..3 * CHALLENGES_MAX {
            assert!(used.take(id(number as u64 / 2, number), 1).is_err(), "{number} was used");
        }
        used.forget_before(u64::MAX);
        used.forget_before(0);
        assert_eq!(used.challenges.len(), 0);
        assert_eq!(used.take(id(1 << 40, 1), 1), Err(Refused::Expired), "also if a caller's clock goes back");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_counter_is_taken_once_and_not_below_the_window(
            counters in prop::collection::vec(prop_oneof![0u64..200, (u64::MAX - 100)..], 0..200)
        ) {
            let (mut window, mut seen, mut highest) = (Window::default(), HashSet::new(), 0);
            for counter in counters {
                let is_new = highest.max(counter) - counter < 64 && !seen.contains(&counter);
                prop_assert_eq!(window.take(counter), is_new);
                highest = highest.max(counter);
                seen.insert(counter);
            }
        }
    }
}
