//! Many seeds: `SIM_SEED=7` runs one and prints its log, `SIM_SEEDS=50000` so many, from `SIM_FIRST` on.

use std::sync::atomic::{AtomicU64, Ordering};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn a_storm_breaks_nothing_and_everything_settles() {
    if let Some(seed) = number("SIM_SEED") {
        if let Err(failure) = tidegate_sim::run(seed, true) {
            panic!("{failure}");
        }
        return;
    }
    let begin = number("SIM_FIRST").unwrap_or(0);
    let end = begin + number("SIM_SEEDS").unwrap_or(1_000);
    let next = AtomicU64::new(begin);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<tidegate_sim::Failure> = std::thread::scope(|scope| {
        let run = || {
            let seeds =
                std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end));
            seeds.filter_map(|seed| tidegate_sim::run(seed, false).err()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of seeds")).collect()
    });
    let Some(first) = failures.iter().min_by_key(|failure| failure.seed) else { return };
    for failure in &failures {
        println!("seed {}: {}: {}", failure.seed, failure.invariant, failure.what);
    }
    panic!("{} of {} seeds fail; the first one:\n{first}", failures.len(), end - begin);
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..20 {
        let log = |run: Result<String, tidegate_sim::Failure>| run.unwrap_or_else(|failure| failure.log);
        let (once, again) = (log(tidegate_sim::run(seed, false)), log(tidegate_sim::run(seed, false)));
        assert!(once == again, "seed {seed} gives two logs");
        assert!(once.lines().count() > 50, "seed {seed} hardly does anything");
    }
}
