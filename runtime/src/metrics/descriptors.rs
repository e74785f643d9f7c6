//! The list of metrics: their names, without the prefix `tidegate_`, and what they mean. docs/operations.md lists them in
//! tables; a test compares the two.

use prometheus_client::metrics::MetricType;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) help: &'static str,
}

macro_rules! descriptors {
    ($($kind:ident $id:ident = $name:literal: $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) const $id: Descriptor =
                Descriptor { name: $name, kind: descriptors!(@ $kind), help: $help };
        )*
        /// All metrics, in the order in which they are listed.
        pub(super) const ALL: &[Descriptor] = &[$($id),*];
    };
    (@ counter) => { MetricType::Counter };
    (@ gauge) => { MetricType::Gauge };
}

descriptors! {
    counter RECORDS_IN = "records_in": "Records taken; at a source malformed ones too.";
    counter PARTIALS_IN = "partials_in": "Partial results that an aggregate_hot has taken from other workers and its own.";
    counter RECORDS_OUT = "records_out": "Records emitted, or written.";
    counter MALFORMED = "malformed": "Records that could not be read, or whose event time is not plausible.";
    counter DROPPED = "dropped": "Records that a filter dropped.";
    counter LATE = "late": "Records that came after their window was over.";
    counter BYTES_IN = "bytes_in": "Bytes that a source has read since the start of the attempt, as its connector counts them.";
    counter BYTES_OUT = "bytes_out": "Bytes that a sink has staged as files since the start of the attempt.";
    counter PARTITION_RECORDS = "partition_records": "Records read from a partition since the start of the attempt, with malformed ones.";
    gauge WATERMARK_MS = "watermark_ms": "Event time so far, in milliseconds since 1970.";
    gauge SOURCE_LAG_MS = "source_lag_ms": "By how much the newest event time of the partition that is furthest behind is before the present; 0 if all were read to their end.";
    gauge WATERMARK_DRIFT_MS = "watermark_drift_ms": "By how much the furthest partition of the worker is ahead of the slowest of the source that has more to read, in event time.";
    gauge PAUSED_PARTITIONS = "paused_partitions": "Partitions that are not read now, because they are ahead of the slowest of the source by more than max_drift.";
    gauge STATE_ENTRIES = "state_entries": "Keys in memory; not those that are only on disk.";
    gauge HOTTEST_KEY_GROUP = "hottest_key_group": "The key group of the worker that had the most records between its last two barriers.";
    gauge HOTTEST_KEY_GROUP_PERCENT = "hottest_key_group_percent": "The share of that key group in the records that the worker has taken between these barriers.";
    gauge BUSY_MICROSECONDS = "busy_microseconds": "Time spent working since the start of the attempt, with what is under way.";
    gauge BLOCKED_MICROSECONDS = "blocked_microseconds": "Time that a source waited for the steps behind it since the start of the attempt.";
    gauge ALIGNMENT_MICROSECONDS = "alignment_microseconds": "From the last trigger to the barrier of the operator chain, or until now.";
    gauge STUCK_SECONDS = "stuck_seconds": "For how long a step has not come back from a record; there only while it hangs.";
    gauge AWAITED_SECONDS = "awaited_seconds": "For how long the process has waited for something outside of the job that does not answer, such as brokers; 0 if it waits for nothing.";
    gauge EPOCH = "epoch": "The last epoch that is complete and published.";
    gauge CHECKPOINT_SECONDS = "checkpoint_seconds": "From the trigger of the last complete epoch until its output was visible.";
    gauge MESSAGES_DROPPED = "messages_dropped": "Messages between the driver and the workers that came twice, too late or from another attempt.";
    gauge CHECKPOINT_BYTES = "checkpoint_bytes": "The size of the worker's state in its last snapshot.";
    gauge CHECKPOINT_WORKER_SECONDS = "checkpoint_worker_seconds": "From the trigger of the worker's last snapshot until it had written its part.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_metric() {
        let text = include_str!("../../../docs/operations.md");
        for Descriptor { name, kind, .. } in ALL {
            let suffix = if matches!(kind, MetricType::Counter) { "_total" } else { "" };
            assert!(text.contains(&format!("| `tidegate_{name}{suffix}` |")), "{name}");
        }
        let documented = text.lines().filter(|line| line.starts_with("| `tidegate_")).count();
        assert_eq!(documented, ALL.len(), "the documentation has others");
    }
}
