//! Against naive oracles, for any records and wherever they are cut in two or more.

use proptest::prelude::*;

use super::*;
use crate::aggregates::{Aggregate, Mergeable};
use crate::state::store::{decode, encode};

type Tuple = (i64, f64);

/// Adds all records; half way the accumulator is encoded and decoded, as by a snapshot and a restart.
fn added<T, A: Aggregate<T>>(aggregate: &A, records: &[T]) -> A::Acc {
    let mut acc = aggregate.create();
    for (i, record) in records.iter().enumerate() {
        if i == records.len() / 2 {
            let mut bytes = Vec::new();
            encode(&acc, &mut bytes).unwrap();
            acc = decode(&bytes).unwrap();
        }
        aggregate.add(&mut acc, record);
    }
    acc
}

/// The result of adding all records to one accumulator, and that of merging those of the parts.
fn both_ways<T, A: Mergeable<T>>(aggregate: &A, records: &[T], cuts: &[usize]) -> (A::Out, A::Out) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (records.len() + 1)).collect();
    places.extend([0, records.len()]);
    places.sort_unstable();
    let mut parts = places.windows(2).map(|place| added(aggregate, &records[place[0]..place[1]]));
    let mut merged = aggregate.create();
    parts.by_ref().for_each(|part| aggregate.merge(&mut merged, part));
    (aggregate.finish(&added(aggregate, records)), aggregate.finish(&merged))
}

fn or_default(best: Option<&i64>) -> i64 {
    best.copied().unwrap_or_default()
}

/// Equal but for rounding, and NaN where the other is NaN.
fn is_near(a: f64, b: f64, scale: f64) -> bool {
    a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * scale.max(1.0)
}

/// Numbers some of which are equal, and some of which are NaN.
fn float() -> impl Strategy<Value = f64> {
    prop_oneof![8 => -1e6f64..1e6, 4 => (-3i32..3).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(-0.0)]
}

fn finite() -> impl Strategy<Value = f64> {
    -1e6f64..1e6
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any::<usize>(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn integers_are_counted_added_and_compared_exactly(
        records in prop::collection::vec(any::<i64>(), 0..40), cuts in cuts(), k in 0usize..6
    ) {
        let it = |n: &i64| *n;
        let aggregate = (Count, Sum::of(it), Min::of(it), Max::of(it), TopK::of(k, it), Mean::of(it));
        let (all, merged) = both_ways(&aggregate, &records, &cuts);
        let count = records.len() as u64;
        let sum: i128 = records.iter().copied().map(i128::from).sum();
        let mut top = records.clone();
        top.sort_unstable_by(|a, b| b.cmp(a));
        top.truncate(k);
        let mean = sum as f64 / count as f64;
        let (least, most) = (or_default(records.iter().min()), or_default(records.iter().max()));
        let oracle = (count, sum, least, most, top, mean.to_bits());
        let bits = |(a, b, c, d, e, mean): (_, _, _, _, _, f64)| (a, b, c, d, e, mean.to_bits());
        prop_assert_eq!(&bits(all), &oracle);
        prop_assert_eq!(&bits(merged), &oracle);
    }

    #[test]
    fn unsigned_integers_do_not_overflow(records in prop::collection::vec(u64::MAX - 3..=u64::MAX, 0..40), cuts in cuts()) {
        let (all, merged) = both_ways(&Sum::of(|n: &u64| *n), &records, &cuts);
        let oracle: i128 = records.iter().copied().map(i128::from).sum();
        prop_assert_eq!((all, merged), (oracle, oracle));
    }

    #[test]
    fn floating_point_numbers_are_added_but_for_rounding(
        records in prop::collection::vec(finite(), 0..40), cuts in cuts()
    ) {
        let it = |x: &f64| *x;
        let (all, merged) = both_ways(&(Sum::of(it), Mean::of(it), StdDev::of(it)), &records, &cuts);
        let (n, sum) = (records.len() as f64, records.iter().sum::<f64>());
        let mean = sum / n;
        let std_dev = (records.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        for (sum_found, mean_found, std_dev_found) in [all, merged] {
            prop_assert!(is_near(sum_found, sum, 1e8), "{} for {}", sum_found, sum);
            prop_assert!(is_near(mean_found, mean, 1e6), "{} for {}", mean_found, mean);
            prop_assert!(is_near(std_dev_found, std_dev, 1e6), "{} for {}", std_dev_found, std_dev);
        }
    }

    #[test]
    fn nan_makes_sums_nan_and_is_left_out_of_an_order(
        records in prop::collection::vec(float(), 0..20), cuts in cuts(), k in 0usize..5
    ) {
        let it = |x: &f64| *x;
        let (all, merged) = both_ways(&(Sum::of(it), Mean::of(it), StdDev::of(it), Min::of(it), Max::of(it), TopK::of(k, it)), &records, &cuts);
        let numbers: Vec<f64> = records.iter().copied().filter(|x| !x.is_nan()).collect();
        let mut top = numbers.clone();
        top.sort_by(|a, b| b.partial_cmp(a).unwrap());
        top.truncate(k);
        for (sum, mean, std_dev, min, max, found) in [all, merged] {
            let has_nan = numbers.len() < records.len();
            prop_assert_eq!(sum.is_nan(), has_nan);
            prop_assert_eq!((mean.is_nan(), std_dev.is_nan()), (has_nan || records.is_empty(), has_nan || records.is_empty()));
            let nothing = if has_nan { f64::NAN } else { 0.0 };
            let expected_min = numbers.iter().copied().reduce(f64::min).unwrap_or(nothing);
            let expected_max = numbers.iter().copied().reduce(f64::max).unwrap_or(nothing);
            prop_assert!(is_near(min, expected_min, 0.0), "{} for {}", min, expected_min);
            prop_assert!(is_near(max, expected_max, 0.0), "{} for {}", max, expected_max);
            prop_assert_eq!(&found, &top);
        }
    }

    /// Pairs that are compared by their first part alone, so that it shows which of two equal ones is kept.
    #[test]
    fn of_equal_values_the_first_is_kept(
        keys in prop::collection::vec(0u8..4, 0..30), cuts in cuts(), k in 0usize..6
    ) {
        let records: Vec<ByKey> = keys.into_iter().zip(0..).map(|(key, number)| ByKey { key, number }).collect();
        let it = |pair: &ByKey| pair.clone();
        let (all, merged) = both_ways(&(Min::of(it), Max::of(it), TopK::of(k, it)), &records, &cuts);
        let mut top = records.clone();
        top.sort_by_key(|pair| std::cmp::Reverse(pair.key)); // it keeps the order of equal ones
        let first = |key: Option<u8>| records.iter().find(|pair| Some(pair.key) == key).map(|pair| pair.number);
        let min = first(records.iter().map(|pair| pair.key).min()).unwrap_or_default();
        let max = first(records.iter().map(|pair| pair.key).max()).unwrap_or_default();
        let top: Vec<u32> = top.iter().take(k).map(|pair| pair.number).collect();
        for (found_min, found_max, found_top) in [all, merged] {
            prop_assert_eq!((found_min.number, found_max.number), (min, max));
            prop_assert_eq!(&found_top.iter().map(|pair| pair.number).collect::<Vec<_>>(), &top);
        }
    }

    #[test]
    fn a_changed_result_has_the_same_accumulator(records in prop::collection::vec(any::<(i64, f64)>(), 0..20), cuts in cuts()) {
        let plain = (Count, Max::of(|r: &Tuple| r.0));
        let changed = (Count, Max::of(|r: &Tuple| r.0)).map(|(count, max)| format!("{count} {max}"));
        let (all, merged) = both_ways(&changed, &records, &cuts);
        let acc = added(&plain, &records);
        prop_assert_eq!(added(&changed, &records), acc);
        let (count, max) = plain.finish(&acc);
        prop_assert_eq!(&all, &format!("{count} {max}"));
        prop_assert_eq!(all, merged);
    }
}

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct ByKey {
    key: u8,
    number: u32,
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.key.partial_cmp(&other.key)
    }
}

#[test]
fn a_smaller_k_after_a_restart_drops_the_rest() {
    let it = |n: &u32| *n;
    let mut top = added(&TopK::of(4, it), &[5, 1, 4, 2, 3]);
    let smaller = TopK::of(2, it);
    assert_eq!(smaller.finish(&top), [5, 4]);
    smaller.add(&mut top, &9);
    assert_eq!(top, [9, 5]);
}

#[test]
fn the_spread_of_large_numbers_that_are_close_together_keeps_its_digits() {
    let records = [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0];
    let (all, merged) = both_ways(&StdDev::of(|x: &f64| *x), &records, &[1]);
    let expected = (2.0f64 / 3.0).sqrt();
    assert!((all - expected).abs() < 1e-9 && (merged - expected).abs() < 1e-9, "{all}, {merged}");
}
