//! A taskmanager that has lost its jobmanager for long ends its processes: nobody else could, if it never came back.

use std::collections::BTreeMap;

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::world::World;

/// A taskmanager looks at its clock ten times a second.
const SLACK_MS: u64 = 1_000;

#[derive(Default)]
pub(super) struct HostsAloneAreEmpty {
    /// By its number: the life of its taskmanager, and since when that has been without a connection and not paused.
    alone: BTreeMap<usize, (u64, u64)>,
}

impl Invariant for HostsAloneAreEmpty {
    fn name(&self) -> &'static str {
        "a taskmanager that is alone for long has no processes"
    }

    fn look(&mut self, world: &World, _happened: &[Happening]) -> Result<(), String> {
        for (number, host) in world.hosts.iter().enumerate() {
            let is_alone = host.supervisor.is_some() && host.connection.is_none();
            if !is_alone || host.stopped_until > world.now {
                self.alone.remove(&number);
                continue;
            }
            let (life, since) = self.alone.entry(number).or_insert((host.life, world.now));
            if *life != host.life {
                (*life, *since) = (host.life, world.now);
            }
            let alone_ms = world.now - *since;
            let may_have_some = alone_ms <= world.config.away_ms + SLACK_MS;
            let lives = |pid: &u32| world.processes.get(pid).is_some_and(|process| process.is_alive);
            let left = host.children.values().filter(|pid| lives(pid)).count();
            hold(may_have_some || left == 0, || {
                format!("{} is without a jobmanager for {alone_ms} ms, and has {left} processes", host.id)
            })?;
        }
        Ok(())
    }
}
