//! `tidegate why`: sentences first, then a table.

use tidegate_protocol::Result;
use tidegate_protocol::why::PartitionState;
use tidegate_rest::why::{
    AwaitedWhy, CheckpointWhy, DoingWhy, Holder, OperatorWhy, PartitionWhy, Place, SilentProcess,
    WatermarkWhy, Why,
};

use super::Session;
use super::skew::skew;
use crate::options::JobOption;
use crate::output::{Table, answer, answer_json, snake_case, span, utc};

/// Partitions and operator chains that are named in a sentence; the table has all of them.
const NAMED: usize = 2;

/// Says what holds a job back.
pub(crate) fn why(session: &Session, job: &JobOption) -> Result<()> {
    let job = session.find(job)?;
    let why: Why = session.client.get(&format!("/v1/jobs/{job}/why"))?;
    if session.is_json() {
        answer_json(&snake_case(&why)?)?;
        return Ok(());
    }
    let sentences: String = sentences(&why).iter().map(|sentence| format!("{sentence}\n")).collect();
    if answer(sentences)? && !(why.operators.is_empty() && why.partitions.is_empty()) {
        answer(format_args!("\n{}", table(&why)))?;
    }
    Ok(())
}

fn sentences(why: &Why) -> Vec<String> {
    let state = why.state;
    let runs = matches!(state.as_str(), "RUNNING" | "STOPPING");
    if let Some(waits_for) = &why.waits_for {
        return vec![format!("The job {} is {state}; it waits: {waits_for}.", why.name)];
    }
    if !runs {
        return vec![format!("The job {} is {state}; it waits for nothing.", why.name)];
    }
    let mut sentences: Vec<String> = why.silent.iter().map(of_silent).collect();
    sentences.extend(awaited(why).map(|awaited| format!("The job waits for {awaited}.")));
    sentences.push(match &why.watermark {
        Some(watermark) => of_watermark(why, watermark),
        None if why.silent.is_empty() => "The job has no event time.".to_owned(),
        None => "The watermark of the job is not known.".to_owned(),
    });
    sentences.push(match &why.checkpoint {
        Some(checkpoint) => of_checkpoint(checkpoint),
        None => "No checkpoint is in flight.".to_owned(),
    });
    sentences.extend(skew(why).map(|skew| format!("The load is uneven: {skew}.")));
    sentences
}

/// What is outside of a job and does not answer, and for how long it has not.
pub(super) fn awaited(why: &Why) -> impl Iterator<Item = String> + use<'_> {
    why.awaited.iter().map(|AwaitedWhy { what, duration, workers }| {
        let workers: Vec<String> = workers.iter().map(u32::to_string).collect();
        let plural = if workers.len() == 1 { "worker" } else { "workers" };
        format!("{what} (for {}, {plural} {})", span(*duration), workers.join(" "))
    })
}

fn of_silent(silent: &SilentProcess) -> String {
    let SilentProcess { taskmanager, host, pid, slots } = silent;
    let pid = pid.map_or_else(String::new, |pid| format!(" {pid}"));
    let plural = if slots.len() == 1 { "worker" } else { "workers" };
    let slots: Vec<String> = slots.iter().map(u32::to_string).collect();
    format!(
        "The process{pid} on {taskmanager} (host {host}) does not answer: whatever waits for its {plural} {} waits for it.",
        slots.join(", ")
    )
}

fn place(place: &Place) -> String {
    let Place { worker, taskmanager, host } = place;
    format!("worker {worker} (host {host}, {taskmanager})")
}

fn of_watermark(why: &Why, watermark: &WatermarkWhy) -> String {
    let WatermarkWhy { operator, time, furthest, held_back_by, standing, partitions } = watermark;
    let is = match (time, furthest) {
        (Some(time), Some(furthest)) if furthest > time => {
            format!(
                "is {} ({} behind the furthest partition)",
                event_time(*time),
                span(furthest.abs_diff(*time))
            )
        }
        (Some(time), _) => format!("is {}", event_time(*time)),
        (None, _) => "is not there yet".to_owned(),
    };
    let held = match held_back_by {
        Holder::Process => "a process does not answer".to_owned(),
        Holder::Step => standing.first().map(doing).unwrap_or_default(),
        Holder::Partition => partitions.first().map(|it| held_back(why, it)).unwrap_or_default(),
        Holder::Nobody => "no partition holds it back: all are idle, or were read to their end".to_owned(),
    };
    let more = match partitions.len() {
        count if count > 1 && *held_back_by == Holder::Partition => {
            format!("; {} others are as far", count - 1)
        }
        _ => String::new(),
    };
    format!("The watermark of '{operator}' {is}: {held}{more}.")
}

fn held_back(why: &Why, partition: &PartitionWhy) -> String {
    let PartitionWhy { source, partition: name, place: at, watermark, quiet_since, .. } = partition;
    let has = match (quiet_since, watermark) {
        (Some(since), None) => {
            format!("has had no record yet, and nothing to read since {}", event_time(*since))
        }
        (Some(since), Some(_)) => format!(
            "has had nothing since {} ({} ago)",
            event_time(*since),
            span(why.timestamp.saturating_sub(since.unsigned_abs()))
        ),
        (None, None) => "has had no record yet".to_owned(),
        (None, Some(_)) => "is the one that is furthest behind, and is being read".to_owned(),
    };
    format!("partition '{name}' of source '{source}' on {} {has}", place(at))
}

fn doing(doing: &DoingWhy) -> String {
    let DoingWhy { step, place: at, record, duration, waits_for_store } = doing;
    let record = if record.is_empty() { String::new() } else { format!(", {record},") };
    let what = if *waits_for_store { "waits for the state store" } else { "has not come back" };
    let since = duration.map_or_else(|| " yet".to_owned(), |ms| format!(" for {}", span(ms)));
    format!("step '{step}' on {}{record} {what}{since}", place(at))
}

fn of_checkpoint(checkpoint: &CheckpointWhy) -> String {
    let CheckpointWhy { epoch, phase, duration, missing, passed, waiting, beside } = checkpoint;
    let begin = format!("The checkpoint of epoch {epoch} has been under way for {}", span(*duration));
    // Who is busy comes first: others may only wait for that.
    let mut first: Vec<_> = waiting.iter().collect();
    first.sort_by_key(|chain| std::cmp::Reverse(chain.doing.as_ref().map(|doing| doing.duration)));
    let named = first.iter().take(NAMED).map(|chain| match &chain.doing {
        Some(it) => format!("'{}' on {}: {}", chain.operator, place(&chain.place), doing(it)),
        None => format!("'{}' on {}, which waits for others", chain.operator, place(&chain.place)),
    });
    let named: Vec<String> = named.collect();
    let more = waiting.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    if !waiting.is_empty() {
        let of = passed + waiting.len();
        let count = waiting.len();
        return format!(
            "{begin}: {count} of {of} operator chains have not passed its barrier: {}{more}.",
            named.join("; ")
        );
    }
    if let Some(it) = beside.first() {
        return format!("{begin} ({phase}): {}.", doing(it));
    }
    let slots: Vec<String> = missing.iter().map(u32::to_string).collect();
    if missing.is_empty() {
        format!("{begin} ({phase}); all that have answered have passed its barrier.")
    } else {
        format!("{begin} ({phase}); the parts of these workers are missing: {}.", slots.join(", "))
    }
}

/// A time that may be before 1970, to the millisecond.
fn event_time(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(ms) => utc(ms),
        Err(_) => format!("{ms} ms before 1970").replacen('-', "", 1),
    }
}

fn table(why: &Why) -> Table {
    let mut table = Table::new(["WHAT", "WORKER", "HOST", "WATERMARK", "STATE", "REMARK"]);
    let watermark = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), event_time);
    for OperatorWhy { operator, place, watermark: time, idle, passed } in &why.operators {
        let state = if *idle { "IDLE" } else { "ACTIVE" };
        let remark = if *passed { "" } else { "has not passed the barrier" };
        table.row([
            operator.clone(),
            place.worker.to_string(),
            place.host.clone(),
            watermark(*time),
            state.to_owned(),
            remark.to_owned(),
        ]);
    }
    for it in &why.partitions {
        let state = match it.state {
            PartitionState::Active => "ACTIVE",
            PartitionState::Paused => "PAUSED",
            PartitionState::Idle => "IDLE",
            PartitionState::Ended => "ENDED",
        };
        let quiet = it.quiet_since.map(|since| format!("nothing since {}", event_time(since)));
        let position = it.position.as_ref().map(|position| format!("at {position}"));
        let paused = (it.state == PartitionState::Paused).then(|| "waits for slower partitions".to_owned());
        let remark: Vec<String> = paused.into_iter().chain(quiet).chain(position).collect();
        table.row([
            format!("{}/{}", it.source, it.partition),
            it.place.worker.to_string(),
            it.place.host.clone(),
            watermark(it.watermark),
            state.to_owned(),
            remark.join(", "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place_of(worker: u32) -> serde_json::Value {
        json!({"worker": worker, "taskmanager": format!("tm-{worker}"), "host": format!("host-{worker}")})
    }

    fn with(place: u32, fields: serde_json::Value) -> serde_json::Value {
        let mut all = place_of(place);
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    }

    fn quiet() -> serde_json::Value {
        with(
            1,
            json!({
                "source": "readings", "partition": "part-3", "watermark": 1_700_000_000_000_i64, "state": "ACTIVE",
                "quiet-since": 1_700_000_100_000_i64, "position": 17
            }),
        )
    }

    fn doing() -> serde_json::Value {
        with(0, json!({"step": "slow", "record": "key 7", "duration": 2500, "waits-for-store": false}))
    }

    fn why(changes: serde_json::Value) -> Why {
        let mut why = json!({
            "jid": "0123456789abcdef0123456789abcdef", "name": "orders", "state": "RUNNING", "attempt": 1,
            "timestamp": 1_700_000_112_000_u64, "waits-for": null, "silent": [],
            "watermark": {
                "operator": "minutes", "time": 1_700_000_000_000_i64, "furthest": 1_700_000_012_000_i64,
                "held-back-by": "partition", "standing": [], "partitions": [quiet()]
            },
            "checkpoint": null, "operators": [], "partitions": [quiet()]
        });
        why.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(why).unwrap()
    }

    #[test]
    fn a_quiet_partition_is_named() {
        let expected = [
            "The watermark of 'minutes' is 2023-11-14 22:13:20 UTC (12s behind the furthest partition): partition 'part-3' of \
             source 'readings' on worker 1 (host host-1, tm-1) has had nothing since 2023-11-14 22:15:00 UTC (12s ago).",
            "No checkpoint is in flight.",
        ];
        assert_eq!(sentences(&why(json!({}))), expected);
        assert!(table(&why(json!({}))).to_string().contains("readings/part-3  1       host-1"));
    }

    #[test]
    fn a_paused_partition_is_shown_as_such() {
        let mut paused = quiet();
        paused["state"] = json!("PAUSED");
        paused["quiet-since"] = json!(null);
        let table = table(&why(json!({"partitions": [paused]}))).to_string();
        assert!(table.contains("PAUSED") && table.contains("waits for slower partitions, at 17"), "{table}");
    }

    #[test]
    fn who_is_silent_or_stands_is_named() {
        let why = why(json!({
            "silent": [{"taskmanager": "tm-2", "host": "host-2", "pid": 9, "slots": [2, 3]}],
            "watermark": null,
            "checkpoint": {
                "epoch": 5, "phase": "pending", "duration": 3000, "missing": [0], "passed": 2, "beside": [],
                "waiting": [
                    with(1, json!({"operator": "minutes", "doing": null})),
                    with(0, json!({"operator": "minutes", "doing": doing()}))
                ]
            }
        }));
        let expected = [
            "The process 9 on tm-2 (host host-2) does not answer: whatever waits for its workers 2, 3 waits for it.",
            "The watermark of the job is not known.",
            "The checkpoint of epoch 5 has been under way for 3s: 2 of 4 operator chains have not passed its barrier: \
             'minutes' on worker 0 (host host-0, tm-0): step 'slow' on worker 0 (host host-0, tm-0), key 7, has not come back \
             for 2s 500ms; 'minutes' on worker 1 (host host-1, tm-1), which waits for others.",
        ];
        assert_eq!(sentences(&why), expected);
    }

    #[test]
    fn a_job_that_does_not_run_says_what_it_waits_for() {
        let waits = why(json!({"state": "RESTARTING", "waits-for": "2 more slots are needed"}));
        assert_eq!(sentences(&waits), ["The job orders is RESTARTING; it waits: 2 more slots are needed."]);
        let over = why(json!({"state": "FINISHED"}));
        assert_eq!(sentences(&over), ["The job orders is FINISHED; it waits for nothing."]);
    }
}
