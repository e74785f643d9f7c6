//! Whether a job can be run, and go on from a snapshot.

use std::collections::BTreeMap;

use tidegate_protocol::manifest::OperatorEntry;
use tidegate_protocol::{Error, KeyGroups, Manifest, Plan, Result};

/// The kind of the steps that generate watermarks, and the prefix of the names of those to which the author gives none.
pub const EVENT_TIME: &str = "event_time";

/// Refuses two sinks that write to one place, where they would overwrite the output of each other, and a sink that writes
/// to a place that a source reads.
///
/// # Errors
/// Which of them, and the place.
pub fn check_places(plan: &Plan) -> Result<()> {
    let mut places = BTreeMap::new();
    for (uid, operator) in plan.sinks() {
        let place = &operator.uri;
        if let Some(other) = places.insert(place, uid) {
            return Err(Error::job(format!(
                "the sinks '{other}' and '{uid}' both write to {}; give each a place of its own",
                place.as_deref().unwrap_or("the same place")
            )));
        }
    }
    for uid in plan.sources.keys() {
        let place = plan.operators.get(uid).map(|operator| &operator.uri);
        if let Some((place, sink)) = place.and_then(|place| Some((place, places.get(place)?))) {
            return Err(Error::job(format!(
                "the sink '{sink}' writes to where the source '{uid}' reads, {}; give it a place of its own",
                place.as_deref().unwrap_or("the same place")
            )));
        }
    }
    Ok(())
}

/// Refuses a snapshot that is not this job's.
///
/// # Errors
/// What does not fit: the job's name, an operator that is gone, its kind, the type of its state, its URI.
pub fn check_fits(plan: &Plan, manifest: &Manifest) -> Result<()> {
    let job = &plan.job;
    if manifest.job != *job {
        return Err(Error::job(format!(
            "the checkpoint directory holds snapshots of the job '{}', and this is '{job}'; give this job a \
             directory of its own with --checkpoint-dir",
            manifest.job
        )));
    }
    manifest.operators.iter().try_for_each(|(uid, old)| check_operator(plan, uid, old))?;
    check_numbered(plan, manifest)
}

/// Whether there is anything left to do for a job that goes on from a snapshot.
///
/// # Errors
/// If its input was read to the end.
pub fn check_unfinished(manifest: &Manifest) -> Result<()> {
    if manifest.finished {
        return Err(Error::job(format!(
            "the snapshot of epoch {} is that of a job that has read its input to the end: there is nothing left to do",
            manifest.epoch
        )));
    }
    Ok(())
}

/// The same for a job that may leave state behind of operators that it no longer has.
///
/// # Errors
/// As those of [`check_fits`], but for operators that are gone.
pub fn check_fits_but_for_gone(plan: &Plan, manifest: &Manifest) -> Result<()> {
    let mut left = manifest.clone();
    left.operators.retain(|uid, _| plan.operators.contains_key(uid));
    check_fits(plan, &left)
}

/// Whether an operator of a job can go on from a snapshot.
#[derive(Clone, Debug)]
pub struct OperatorFit {
    /// Its uid.
    pub uid: String,
    /// Its kind.
    pub kind: String,
    /// What it does with the snapshot: it goes on, or begins anew; or why it cannot.
    pub outcome: Result<&'static str>,
}

/// Whether every operator of a job and of a snapshot would fit, for people; the first error is that of [`check_fits`].
pub fn operators_fit(plan: &Plan, manifest: &Manifest) -> Vec<OperatorFit> {
    let fit =
        |uid: &String, kind: &str, outcome| OperatorFit { uid: uid.clone(), kind: kind.to_owned(), outcome };
    let old = manifest.operators.iter().map(|(uid, old)| {
        let goes_on = if old.state.is_some() { "goes on with its state" } else { "goes on" };
        fit(uid, &old.kind, check_operator(plan, uid, old).map(|()| goes_on))
    });
    // What an operator keeps beside its state has a uid with a '#', and fits as the operator does.
    let is_shown = |fit: &OperatorFit| fit.outcome.is_err() || !fit.uid.contains('#');
    let is_new = |(uid, _): &(&String, &OperatorEntry)| !manifest.operators.contains_key(*uid);
    let new = plan
        .operators
        .iter()
        .filter(is_new)
        .map(|(uid, new)| fit(uid, &new.kind, Ok("begins without state")));
    old.chain(new).filter(is_shown).collect()
}

/// Steps without a name of their own are numbered, and one more such step shifts the numbers: the watermarks of partitions
/// would be restored into the wrong step.
fn check_numbered(plan: &Plan, manifest: &Manifest) -> Result<()> {
    let mut before = manifest.operators.iter().filter(|(uid, operator)| is_numbered(uid, operator));
    let Some((old, _)) = before.next() else { return Ok(()) };
    let mut now = plan.operators.iter().filter(|(uid, operator)| is_numbered(uid, operator));
    let Some((new, _)) = now.find(|(uid, _)| !manifest.operators.contains_key(*uid)) else {
        return Ok(());
    };
    Err(Error::job(format!(
        "the snapshot does not fit the job: there is one more step without a name, '{new}', and the numbers do not \
         show which step is new; give the new step .named(\"..\"), and the others the uids that they had before, \
         .uid(\"{old}\") and so on"
    )))
}

fn check_operator(plan: &Plan, uid: &str, old: &OperatorEntry) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::job(format!(
            "the snapshot does not fit the job: {what}; to start anew, begin without a snapshot (alone with an empty \
             --checkpoint-dir, on a cluster without -s) and with empty output directories"
        )))
    };
    let Some(new) = plan.operators.get(uid) else {
        return refuse(format!(
            "it holds a {} with the uid '{uid}', which the job does not have (if it was renamed, give it \
             .uid(\"{uid}\"))",
            old.kind
        ));
    };
    if old.kind != new.kind {
        return refuse(format!("'{uid}' was a {} and is a {} now", old.kind, new.kind));
    }
    if let (Some(before), Some(now)) = (&old.state, &new.state)
        && before.fingerprint != now.fingerprint
    {
        return refuse(format!(
            "the state of '{uid}' was of type {} ({}) and is of type {} ({}) now",
            before.name, before.fingerprint, now.name, now.fingerprint
        ));
    }
    if old.uri != new.uri {
        let place = |o: &OperatorEntry| o.uri.clone().unwrap_or_default();
        let verb = if new.kind == "source" { "read from" } else { "wrote to" };
        return refuse(format!("'{uid}' {verb} {} and is given {} now", place(old), place(new)));
    }
    Ok(())
}

/// True for a step that makes watermarks and was given no name.
fn is_numbered(uid: &str, operator: &OperatorEntry) -> bool {
    let number = uid.strip_prefix(EVENT_TIME).and_then(|rest| rest.strip_prefix('-'));
    operator.kind == EVENT_TIME && number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// Refuses more workers than there are key groups.
///
/// # Errors
/// How many there may be, and whether that can be changed.
pub fn check_parallelism(parallelism: usize, groups: KeyGroups, is_restored: bool) -> Result<()> {
    if parallelism <= usize::from(groups.count) {
        return Ok(());
    }
    let stays = if is_restored { ", as when the job was first started; it cannot change" } else { "" };
    Err(Error::job(format!(
        "--parallelism {parallelism} is invalid: it must be at most --max-parallelism, which is {}{stays}",
        groups.count
    )))
}

/// What has changed since the snapshot was taken and counts from the restart on, for the log.
pub fn changes(plan: &Plan, manifest: &Manifest) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.max_parallelism != manifest.key_groups.count {
        notes.push(format!(
            "--max-parallelism stays {}, as it was when the job was first started",
            manifest.key_groups.count
        ));
    }
    let show = |values: Option<&Vec<String>>| values.map_or("not given".to_owned(), |v| v.join(" "));
    let (before, now) = (&manifest.arguments, &plan.arguments);
    let names: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    notes.extend(changed.map(|name| {
        format!(
            "--{} was {} and is {}; the new value counts from here on",
            name.replace('_', "-"),
            show(before.get(name)),
            show(now.get(name))
        )
    }));
    notes
}
