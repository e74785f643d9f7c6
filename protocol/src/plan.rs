//! The plan: what a job consists of, for the program that runs it. A job is described for it without being run.
//!
//! A job's program prints it as JSON (`my-job .. --plan`). All rules about restarting a job (which snapshots fit it, which
//! worker reads which partitions) are rules over a plan and a manifest; they do not need the job's code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::OperatorEntry;

/// The version of the plan's format that this build writes.
pub const PLAN_VERSION: u32 = 1;

/// What a job consists of, as far as other programs need it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Plan {
    /// The version of this format.
    pub plan_version: u32,
    /// The job's name.
    pub job: String,
    /// The greatest parallelism that the job asks for: its number of key groups, unless a snapshot says otherwise.
    pub max_parallelism: u16,
    /// The job's own command line arguments, flag by flag.
    pub arguments: BTreeMap<String, Vec<String>>,
    /// The operators with something in a snapshot, by uid, as a manifest lists them; `store_id` is 0, as it is given at a start.
    pub operators: BTreeMap<String, OperatorEntry>,
    /// The sources by uid. Each of them is among the operators, too.
    pub sources: BTreeMap<String, SourcePlan>,
    /// The whole dataflow, part by part; every worker must describe the same.
    pub dataflow: Vec<String>,
    /// What the job's own flags say about how it is run; a cluster may be told otherwise.
    #[serde(default)]
    pub settings: PlanSettings,
}

impl Plan {
    /// The source with the most partitions, by its uid, and their number; None of a job without sources.
    #[must_use]
    pub fn widest_source(&self) -> Option<(&str, u32)> {
        let sources = self.sources.iter().map(|(uid, source)| (source.partitions.len(), uid));
        let (partitions, uid) = sources.max()?;
        Some((uid, u32::try_from(partitions).unwrap_or(u32::MAX)))
    }
}

/// What the flags of a job's program say about how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PlanSettings {
    /// The number of workers; None for as many as there is room for.
    pub parallelism: Option<u32>,
    /// Milliseconds from one checkpoint to the next.
    pub checkpoint_interval_ms: u64,
    /// The number of complete snapshots that are kept.
    pub retain: u64,
    /// What the flags ask for and a cluster does not do, each as a sentence.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self { parallelism: None, checkpoint_interval_ms: 1_000, retain: 3, warnings: Vec::new() }
    }
}

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SourcePlan {
    /// True if it ends; false if it is followed as it grows.
    pub bounded: bool,
    /// The names of the partitions that there are now, in any order.
    pub partitions: Vec<String>,
}

impl Plan {
    /// The uids of the sinks, and of what writes dead letters: operators with a URI that are not sources.
    pub fn sinks(&self) -> impl Iterator<Item = (&str, &OperatorEntry)> {
        let has_target = |(uid, operator): &(&String, &OperatorEntry)| {
            operator.uri.is_some() && !self.sources.contains_key(*uid)
        };
        self.operators.iter().filter(has_target).map(|(uid, operator)| (uid.as_str(), operator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_printed() {
        let operator = |kind: &str, uri: Option<&str>| OperatorEntry {
            kind: kind.to_owned(),
            uri: uri.map(str::to_owned),
            ..OperatorEntry::default()
        };
        let operators = [
            ("in".to_owned(), operator("source", Some("/in"))),
            ("count".to_owned(), operator("aggregate", None)),
            ("out".to_owned(), operator("sink", Some("/out"))),
        ];
        let source = SourcePlan { bounded: true, partitions: vec!["part-0.jsonl".to_owned()] };
        let plan = Plan {
            plan_version: PLAN_VERSION,
            job: "job".to_owned(),
            max_parallelism: 128,
            arguments: [("limit".to_owned(), vec!["5".to_owned()])].into(),
            operators: operators.into(),
            sources: [("in".to_owned(), source)].into(),
            dataflow: vec!["the source 'in'".to_owned()],
            settings: PlanSettings { parallelism: Some(3), ..PlanSettings::default() },
        };
        let text = serde_json::to_string_pretty(&plan).expect("plain data");
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("a plan"), plan);
        assert_eq!(plan.sinks().map(|(uid, _)| uid).collect::<Vec<_>>(), ["out"]);
    }
}
