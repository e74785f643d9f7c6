//! Which worker reads which partitions.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tidegate_protocol::manifest::PartitionSnapshot;
use tidegate_protocol::{Manifest, Plan, Slot};

/// The partitions of every source, by worker. A partition never moves while the attempt runs; new ones are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment(BTreeMap<String, Vec<Vec<String>>>);

/// All partitions of a source that a worker reads, after it was assigned more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The source's uid.
    pub source: String,
    /// The worker.
    pub slot: Slot,
    /// Its partitions, in the order in which they were assigned.
    pub partitions: Vec<String>,
}

impl Assignment {
    /// Assigns the partitions of every source to `parallelism` workers: those that exist, and those in the restored
    /// snapshot.
    pub fn new(plan: &Plan, restored: Option<&Manifest>, parallelism: usize) -> Self {
        let assign = |(uid, source): (&String, &tidegate_protocol::SourcePlan)| {
            let mut names: BTreeSet<&String> = source.partitions.iter().collect();
            names.extend(restored_partitions(restored, uid).map(|(name, _)| name));
            let mut workers = vec![Vec::new(); parallelism];
            for (i, name) in names.into_iter().enumerate() {
                workers[i % parallelism].push(name.clone());
            }
            (uid.clone(), workers)
        };
        Self(plan.sources.iter().map(assign).collect())
    }

    /// The partitions of each source, for every worker.
    pub fn by_worker(&self) -> &BTreeMap<String, Vec<Vec<String>>> {
        &self.0
    }

    /// How many partitions the source has that has the most.
    pub fn most_partitions(&self) -> usize {
        self.0.values().map(|workers| workers.iter().map(Vec::len).sum()).max().unwrap_or(0)
    }

    /// The assignment under which a snapshot was written. A partition that was assigned shortly before may be missing in it.
    pub fn of(manifest: &Manifest) -> Self {
        let mut all: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        for (slot, part) in &manifest.slots {
            for (uid, operator) in part.operators.iter().filter(|(uid, _)| is_source(manifest, uid)) {
                let none = || vec![Vec::new(); manifest.parallelism as usize];
                let workers = all.entry(uid.clone()).or_insert_with(none);
                if let Some(partitions) = workers.get_mut(slot.0 as usize) {
                    partitions.extend(operator.partitions.keys().cloned());
                }
            }
        }
        Self(all)
    }

    /// The partitions of every source and worker.
    pub fn all(&self) -> impl Iterator<Item = Assigned> {
        self.0.iter().flat_map(|(source, workers)| {
            workers.iter().enumerate().map(move |(slot, partitions)| Assigned {
                source: source.clone(),
                slot: Slot(slot as u32),
                partitions: partitions.clone(),
            })
        })
    }

    /// Assigns those partitions of a source that are not assigned yet to the workers with the fewest partitions. Returns
    /// the workers that were assigned some.
    pub fn add(&mut self, source: &str, names: Vec<String>) -> Vec<Assigned> {
        let Some(workers) = self.0.get_mut(source) else { return Vec::new() };
        let before: Vec<usize> = workers.iter().map(Vec::len).collect();
        let known: HashSet<&str> = workers.iter().flatten().map(String::as_str).collect();
        let mut fresh: Vec<String> =
            names.into_iter().filter(|name| !known.contains(name.as_str())).collect();
        fresh.sort();
        for name in fresh {
            if let Some(partitions) = workers.iter_mut().min_by_key(|partitions| partitions.len()) {
                partitions.push(name);
            }
        }
        let grown = workers.iter().enumerate().filter(|(slot, partitions)| partitions.len() > before[*slot]);
        let assigned = |(slot, partitions): (usize, &Vec<String>)| Assigned {
            source: source.to_owned(),
            slot: Slot(slot as u32),
            partitions: partitions.clone(),
        };
        grown.map(assigned).collect()
    }
}

fn is_source(manifest: &Manifest, uid: &str) -> bool {
    manifest.operators.get(uid).is_some_and(|operator| operator.kind == "source")
}

/// The partitions of a source in a snapshot.
pub fn restored_partitions<'a>(
    restored: Option<&'a Manifest>,
    uid: &'a str,
) -> impl Iterator<Item = (&'a String, &'a PartitionSnapshot)> {
    let slots = restored.into_iter().flat_map(|m| m.slots.values());
    slots.filter_map(move |slot| slot.operators.get(uid)).flat_map(|part| part.partitions.iter())
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::SourcePlan;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn new_partitions_are_assigned_to_the_workers_with_the_fewest() {
        let source = SourcePlan { bounded: false, partitions: names(&["c", "b", "a", "d"]) };
        let plan = Plan { sources: [("source".to_owned(), source)].into(), ..Plan::default() };
        let mut assignment = Assignment::new(&plan, None, 3);
        assert_eq!(assignment.by_worker()["source"], [names(&["a", "d"]), names(&["b"]), names(&["c"])]);
        let grown = |assigned: Vec<Assigned>| -> Vec<(u32, String)> {
            assigned.into_iter().map(|assigned| (assigned.slot.0, assigned.partitions.join(" "))).collect()
        };
        assert_eq!(grown(assignment.add("source", names(&["a", "b", "c"]))), []);
        let more = grown(assignment.add("source", names(&["g", "a", "f", "e"])));
        assert_eq!(more, [(0, "a d g".to_owned()), (1, "b e".to_owned()), (2, "c f".to_owned())]);
        assert_eq!(grown(assignment.add("other", names(&["x"]))), []);
    }
}
