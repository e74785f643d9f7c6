//! Which worker reads which partitions.

use std::collections::BTreeMap;

use tidegate_protocol::Slot;

use crate::link::Command;

/// The partitions of every source, by worker. A partition never moves while the attempt runs; new ones are added.
pub(crate) struct Assignment(BTreeMap<String, Vec<Vec<String>>>);

impl Assignment {
    pub(crate) fn new(assigned: BTreeMap<String, Vec<Vec<String>>>) -> Self {
        Self(assigned)
    }

    /// Assigns the partitions of a source that nobody has yet to the workers that have the fewest, and returns what is to
    /// be told of it.
    pub(crate) fn add(&mut self, source: &str, names: Vec<String>) -> Vec<Command> {
        let Some(workers) = self.0.get_mut(source) else { return Vec::new() };
        let before: Vec<usize> = workers.iter().map(Vec::len).collect();
        let mut fresh: Vec<String> = names
            .into_iter()
            .filter(|name| !workers.iter().any(|partitions| partitions.contains(name)))
            .collect();
        fresh.sort();
        for name in fresh {
            if let Some(partitions) = workers.iter_mut().min_by_key(|partitions| partitions.len()) {
                partitions.push(name);
            }
        }
        let grown = workers.iter().enumerate().filter(|(slot, partitions)| partitions.len() > before[*slot]);
        grown
            .map(|(slot, partitions)| Command::Assigned {
                source: source.to_owned(),
                slot: Slot(slot as u32),
                partitions: partitions.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_partitions_go_to_who_has_the_fewest_and_are_told_with_all_others_of_that_worker() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let by_worker = vec![names(&["a", "c"]), names(&["b"]), Vec::new()];
        let mut assignment = Assignment::new(BTreeMap::from([("source".to_owned(), by_worker)]));
        let told = |commands: Vec<Command>| {
            let of = |command| match command {
                Command::Assigned { slot, partitions, .. } => (slot.0, partitions.join(" ")),
                other => panic!("{other:?}"),
            };
            commands.into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(told(assignment.add("source", names(&["a", "b", "c"]))), []);
        let grown = told(assignment.add("source", names(&["f", "a", "e", "d"])));
        assert_eq!(grown, [(1, "b e".to_owned()), (2, "d f".to_owned())]);
        assert_eq!(told(assignment.add("other", names(&["x"]))), []);
    }
}
