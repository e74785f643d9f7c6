//! What a program frees goes back to the system, once it has run a job.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use tidegate::testing::{Discard, TestJob, VecSource};

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// The memory of this process that is in use, as the system counts it, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn freed_memory_is_given_back() {
    let job = TestJob::new(|job| {
        job.source("numbers", VecSource::of([1])).sink("out", Discard::named("out"));
        Ok(())
    });
    job.run().unwrap();
    let before = resident();
    // As state has it: many small pieces, of which the last ones stay.
    let mut set: BTreeSet<[u64; 6]> =
        (0..1_000_000).map(|n: u64| [n.wrapping_mul(0x9e37_79b9_7f4a_7c15); 6]).collect();
    let full = resident() - before;
    while set.len() > 20_000 {
        set.pop_first();
    }
    let left = resident().saturating_sub(before);
    assert!(full > 48 << 20, "it took {full} bytes only");
    assert!(left < full / 8, "{left} bytes of {full} are still there");
}
