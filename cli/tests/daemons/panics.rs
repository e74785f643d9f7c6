//! A daemon of which a thread panics ends, and goes on with its jobs when it is started again.

use crate::cluster::{Cluster, program};

#[test]
fn a_jobmanager_that_panics_ends_and_goes_on_with_its_jobs_when_it_is_started_again() {
    let Some(program) = program("sensor-rules") else { return };
    let mut cluster = Cluster::new();
    // The thread that writes the third manifest.
    cluster.set("FAILPOINTS", "completion.before_rename=2*off->panic");
    cluster.start_jobmanager("");
    cluster.unset("FAILPOINTS");
    cluster.start_taskmanager("tm1", "");
    cluster.wait_for_taskmanagers(1);
    cluster.submit_rules(&program, "-p 1 -D checkpoint.interval=100ms");
    assert_eq!(cluster.exit_code(0), Some(101));
    assert!(cluster.log(0).contains("panicked"), "{}", cluster.log(0));

    cluster.start_jobmanager("");
    cluster.until("checkpoints go on, of the same attempt", |cluster| {
        let info = cluster.json("info rules").unwrap_or_default();
        info["attempt"] == 1 && info["checkpoints"]["last_epoch"].as_u64() > Some(4)
    });
}
