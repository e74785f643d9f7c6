//! What this process knows of what holds event time or a barrier back, for a user who asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_connector_api::awaited;
use tidegate_protocol::why::{AwaitedByProcess, ChainProgress, Doing, OperatorWatermark, ProcessWhy};

use super::watchdog::{Standing, Watchdog};
use crate::activity::Alignment;
use crate::dataflow::process::Process;
use crate::step::StepKind;

/// What is known now.
pub(super) fn why(process: &Process, watchdog: &Watchdog) -> ProcessWhy {
    let standing = watchdog.standing(&process.activities, Instant::now());
    let instructions = process.driver.instructions();
    let chain = |chain: &Arc<Alignment>| {
        let its_own = |standing: &&Standing| Arc::ptr_eq(&standing.activity, chain.activity());
        let (step, worker) = chain.chain();
        ChainProgress {
            operator: step.name(),
            worker,
            passed: chain.epoch(),
            doing: standing.iter().find(its_own).map(doing),
        }
    };
    let watermarks = process.metrics.watermarks().into_iter();
    ProcessWhy {
        triggered: instructions.triggered(),
        since_trigger_ms: ms(instructions.since_trigger()),
        watermarks: watermarks
            .map(|(step, worker, watermark_ms)| OperatorWatermark {
                operator: step.name(),
                worker,
                makes_watermarks: step.kind() == StepKind::EventTime,
                watermark_ms,
            })
            .collect(),
        chains: process.activities.alignments().iter().map(chain).collect(),
        partitions: process.activities.partitions(),
        beside: standing
            .iter()
            .filter(|standing| standing.seen_at.is_beside_the_worker())
            .map(doing)
            .collect(),
        awaited: awaited()
            .into_iter()
            .map(|it| AwaitedByProcess { for_ms: ms(it.duration()), what: it.what })
            .collect(),
        keyed: process.activities.keyed_loads(),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn doing(standing: &Standing) -> Doing {
    let Standing { activity, seen_at, time, waits_for_store } = standing;
    Doing {
        step: activity.step(seen_at).map_or_else(|| "?".to_owned(), |step| step.name()),
        worker: activity.slot,
        record: activity.describe_record(seen_at, activity.key_hash(seen_at).as_deref()),
        for_ms: time.map(ms),
        waits_for_store: *waits_for_store,
    }
}
