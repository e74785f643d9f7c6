//! Twenty kills of the real job, by a few seeds, each held against the oracle.
//!
//! The job and the generator are looked for beside the tests (`make test` builds them first).

use std::sync::{Mutex, PoisonError};
use tidegate_chaos::report::Report;
use tidegate_chaos::{Driver, Options};

/// One job at a time: instants mean little on a machine that is busy with something else.
static MACHINE: Mutex<()> = Mutex::new(());

fn run(options: Options) -> Report {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let kills = options.kills;
    let report = Driver::run(options).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.kills >= kills);
    report.lines().iter().for_each(|line| println!("{line}"));
    println!("{}", report.verdict());
    report
}

#[test]
fn four_kills_at_random_instants_while_snapshots_are_refused() {
    let failpoints = vec!["none".into()];
    let report = run(Options { kills: 4, seed: 11, failpoints, refuse: 90, ..Options::default() });
    assert!(report.aborted > 0);
}

/// The steps between a snapshot and its output, where a kill is most likely to find something; all of it with batches that
/// travel as bytes.
#[test]
fn ten_kills_on_the_way_from_snapshot_to_output() {
    let steps = [
        "snapshot.linked",
        "completion.before_rename",
        "completion.after_rename",
        "sink.before_rename",
        "sink.after_rename",
        "collect.half_way",
    ];
    let failpoints = steps.map(String::from).to_vec();
    let report =
        run(Options { kills: 10, seed: 12, partitions: 5, failpoints, wire: 100, ..Options::default() });
    assert!(report.at_failpoints() > 0);
    assert!(report.over_the_wire >= report.kills);
}

#[test]
fn six_kills_with_damaged_snapshots_slow_steps_and_full_disks() {
    let options =
        Options { kills: 6, seed: 13, devices: 20_000, damage: true, slow_disk: true, ..Options::default() };
    let report = run(Options { full_disk: true, ..options });
    assert!(report.fell_back + report.refused > 0);
    assert!(report.slow_disks > 0);
    if may_mount() {
        assert_eq!((report.full_disks, report.skipped.len()), (2, 0), "{:?}", report.skipped);
    }
}

/// True if this process has the capability CAP_SYS_ADMIN, as root has outside of containers.
fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits >> 21 & 1 == 1)
}
