//! A real cluster whose checkpoint store is in a bucket, and a real job: `predictive-maintenance`, which is built beside the
//! program. A process is killed, the object store is away for some seconds, and the output is what it would have been.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tidegate_s3_server::{BUCKET, KEY_ID, S3Server, SECRET_KEY};

use crate::cluster::{Cluster, lines, program, signal};

/// How long the object store is away.
const AWAY: Duration = Duration::from_secs(4);
const JOB: &str = "predictive-maintenance";

/// An object store, and a cluster of one jobmanager and two taskmanagers of one slot each.
struct WithBucket {
    cluster: Cluster,
    server: S3Server,
}

impl Deref for WithBucket {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl WithBucket {
    fn start() -> Self {
        let (mut cluster, server) = (Cluster::new(), S3Server::new());
        let file = cluster.path("credentials");
        let keys = format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n");
        fs::write(&file, keys).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let configuration = format!(
            "[jobmanager]\ncheckpoint-store = 's3://{BUCKET}/cluster'\nlisten = '127.0.0.1:{}'\n\
             [s3]\nendpoint = '{}'\nregion = 'us-east-1'\ncredentials-file = 'credentials'\n",
            cluster.jobmanager,
            server.endpoint()
        );
        fs::write(cluster.path("tidegate.toml"), configuration).unwrap();
        cluster.start_daemon("jobmanager --data jm");
        cluster.start_taskmanager("tm1", "");
        cluster.start_taskmanager("tm2", "");
        cluster.wait_for_taskmanagers(2);
        Self { cluster, server }
    }

    fn info(&self) -> Value {
        self.json(&format!("info {JOB}")).unwrap_or_default()
    }

    fn completed(&self) -> u64 {
        self.info()["checkpoints"]["completed"].as_u64().unwrap_or(0)
    }

    fn attempt(&self) -> u64 {
        self.info()["attempt"].as_u64().unwrap_or(0)
    }

    /// Kills a process of the job.
    fn kill_process(&self, number: usize) {
        signal("-KILL", self.info()["processes"][number]["pid"].as_u64().unwrap());
    }

    /// Waits until the job runs in a later attempt and has completed a checkpoint in it.
    fn until_it_goes_on(&self, attempt: u64) {
        self.until("the job runs again", |_| self.attempt() > attempt && self.info()["state"] == "RUNNING");
        let completed = self.completed();
        self.until("it completes checkpoints again", |_| self.completed() > completed);
    }

    /// All files of daemons and job processes but the one with the credentials.
    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut directories) = (Vec::new(), vec![self.path(".")]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => files.push(path),
                }
            }
        }
        files.retain(|path| !path.ends_with("credentials"));
        files
    }
}

fn holds_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET_KEY.len()).any(|window| window == SECRET_KEY.as_bytes())
}

#[test]
fn a_job_with_its_snapshots_in_a_bucket_survives_kills_and_a_store_that_is_away() {
    let (Some(job), Some(generator)) = (program(JOB), program("sensor-data")) else { return };
    let mut cluster = WithBucket::start();
    let line = "--out in --rows 300000 --devices 500 --rate 50000 --quiet";
    let mut generating = cluster.command_of(generator, line).stdout(Stdio::null()).spawn().unwrap();
    cluster.until("there are readings", |cluster| cluster.path("in/part-2.jsonl").exists());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/model/model.json");
    let arguments = |suffix: &str| {
        let model = model.display();
        format!("--input in --output out{suffix} --dead-letters dead{suffix} --model {model}")
    };
    let executable = job.display();
    cluster
        .run(&format!("run -d -p 2 -D checkpoint.interval=200ms {executable} -- --follow {}", arguments("")))
        .expect("the job is submitted");
    cluster.until("checkpoints are completed", |_| cluster.completed() >= 3);
    cluster.kill_process(0);
    cluster.until_it_goes_on(1);

    let attempt = cluster.attempt();
    cluster.server.go_away();
    cluster.kill_process(1);
    thread::sleep(AWAY);
    cluster.server.come_back();
    cluster.until_it_goes_on(attempt);

    let savepoint = cluster.run(&format!("savepoint {JOB}")).expect("a savepoint is made");
    let savepoint = savepoint.trim();
    assert!(savepoint.starts_with(&format!("s3://{BUCKET}/cluster/savepoints/savepoint-")), "{savepoint}");
    let check = format!("savepoint check {savepoint} {executable} -- --follow {}", arguments(""));
    assert!(cluster.run(&check).expect("the savepoint fits").contains("goes on with its state"));

    assert!(generating.wait().unwrap().success());
    let drained = cluster.run(&format!("stop --drain --savepoint-path s3://{BUCKET}/mine {JOB}")).unwrap();
    assert!(drained.contains(&format!("s3://{BUCKET}/mine/savepoint-")), "{drained}");
    let alone = cluster
        .command_of(&job, &format!("{} --checkpoint-dir alone", arguments("-alone")))
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    let (expected, found) = (lines(&cluster.path("out-alone")), lines(&cluster.path("out")));
    assert!(expected.len() > 1000 && expected == found, "{} and {} lines", expected.len(), found.len());

    let config = cluster.run("config").unwrap();
    assert!(config.contains("s3.credentials-file") && !holds_secret(config.as_bytes()), "{config}");
    for path in cluster.files() {
        assert!(!holds_secret(&fs::read(&path).unwrap()), "{}", path.display());
    }
}

#[test]
fn a_job_alone_refuses_a_bucket() {
    let Some(job) = program(JOB) else { return };
    let directory = tempfile::tempdir().unwrap();
    let line = "--input in --output out --dead-letters dead --model m --checkpoint-dir s3://bucket/a";
    let output = Command::new(job).args(line.split_whitespace()).current_dir(&directory).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("a bucket has no lock") && !directory.path().join("s3:").exists(), "{error}");
}
