//! Where the load of a job is uneven: partitions, workers and key groups that have far more records than others.

use std::collections::BTreeMap;

use tidegate_rest::why::Why;

/// Below so many records shares say nothing.
const LEAST_RECORDS: u64 = 10_000;
/// A partition or a worker that has so many times the records of the average, in percent.
const FAR_MORE: u64 = 150;
/// A key group has to have this part of a worker's records, in percent, and so many times what it would have if they were even.
const HOT: (u64, u64) = (20, 4);

/// Each as a part of a sentence.
pub(super) fn skew(why: &Why) -> impl Iterator<Item = String> + use<> {
    let mut found = Vec::new();
    let mut sources: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for it in &why.partitions {
        // With several steps of event time there are several entries for a partition.
        sources.entry(&it.source).or_default().insert(&it.partition, it.records);
    }
    for (source, partitions) in sources {
        let of = partitions.len();
        if let Some((partition, percent)) = busiest(partitions) {
            found.push(format!("partition '{partition}' has {percent} % of the records of source '{source}' ({of} partitions)"));
        }
    }
    let mut operators: BTreeMap<&str, Vec<(u32, u64)>> = BTreeMap::new();
    for it in &why.keyed {
        operators.entry(&it.operator).or_default().push((it.place.worker, it.records));
    }
    for (operator, workers) in operators {
        let of = workers.len();
        if let Some((worker, percent)) = busiest(workers) {
            found.push(format!(
                "worker {worker} has {percent} % of the records of '{operator}' ({of} workers)"
            ));
        }
    }
    for it in &why.keyed {
        let hot = it.hottest_key_group.filter(|hottest| {
            let percent = u64::from(hottest.percent);
            percent >= HOT.0 && percent * u64::from(it.key_groups) >= HOT.1 * 100
        });
        if let Some(hot) = hot {
            found.push(format!(
                "key group {} has {} % of the records of '{}' on worker {} ({} key groups): a key with very many records is in it; \
                 an aggregate can be an aggregate_hot",
                hot.number, hot.percent, it.operator, it.place.worker, it.key_groups
            ));
        }
    }
    found.into_iter()
}

/// Who has far more than the others, and its share in percent.
fn busiest<T>(all: impl IntoIterator<Item = (T, u64)>) -> Option<(T, u64)> {
    let all: Vec<_> = all.into_iter().collect();
    let (count, sum) = (all.len() as u64, all.iter().map(|(_, records)| records).sum::<u64>());
    let (who, most) = all.into_iter().max_by_key(|(_, records)| *records)?;
    let is_far_more = count > 1 && sum >= LEAST_RECORDS && most * count * 100 >= sum * FAR_MORE;
    is_far_more.then(|| (who, most * 100 / sum))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn why(partitions: &[u64], keyed: &[(u64, u8)]) -> Vec<String> {
        let at = |worker: usize| json!({"worker": worker, "taskmanager": "tm", "host": "h"});
        let with = |worker: usize, fields: Value| {
            let mut all = at(worker);
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            all
        };
        let partitions: Vec<Value> = (0..)
            .zip(partitions)
            .map(|(number, records)| {
                with(0, json!({
                    "source": "in", "partition": format!("t-{number}"), "watermark": null, "state": "ACTIVE",
                    "quiet-since": null, "position": null, "records": records
                }))
            })
            .collect();
        let keyed: Vec<Value> = (0..)
            .zip(keyed)
            .map(|(worker, (records, percent))| {
                with(
                    worker,
                    json!({
                        "operator": "sum", "records": records, "key-groups": 32,
                        "hottest-key-group": {"number": 17, "percent": percent}
                    }),
                )
            })
            .collect();
        let why = json!({
            "jid": "0123456789abcdef0123456789abcdef", "name": "orders", "state": "RUNNING", "attempt": 1, "timestamp": 0,
            "waits-for": null, "silent": [], "watermark": null, "checkpoint": null, "operators": [],
            "partitions": partitions, "keyed": keyed
        });
        skew(&serde_json::from_value(why).unwrap()).collect()
    }

    #[test]
    fn what_is_about_even_or_says_nothing_yet_is_not_named() {
        assert!(why(&[5_000, 6_000, 7_000], &[(9_000, 5), (10_000, 12)]).is_empty());
        assert!(why(&[0, 9_000], &[(9_000, 5)]).is_empty());
        assert!(why(&[], &[]).is_empty());
    }

    #[test]
    fn what_has_far_more_than_the_others_is_named() {
        let found = why(&[80_000, 10_000, 10_000], &[(75_000, 60), (25_000, 3)]);
        assert_eq!(
            found,
            [
                "partition 't-0' has 80 % of the records of source 'in' (3 partitions)",
                "worker 0 has 75 % of the records of 'sum' (2 workers)",
                "key group 17 has 60 % of the records of 'sum' on worker 0 (32 key groups): a key with very many records is in it; an \
             aggregate can be an aggregate_hot",
            ]
        );
    }
}
