//! A real cluster whose checkpoint store is in a bucket, and a real job: `predictive-maintenance`, which is built beside the
//! program. A process is killed, the object store is away for some seconds, and the output is what it would have been.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_s3_server::{BUCKET, KEY_ID, S3Server, SECRET_KEY};

/// How long the object store is away.
const AWAY: Duration = Duration::from_secs(4);
/// How long anything that is waited for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const JOB: &str = "predictive-maintenance";

/// An object store, and a cluster of one jobmanager and two taskmanagers of one slot each.
struct Cluster {
    directory: TempDir,
    server: S3Server,
    daemons: Vec<Child>,
}

impl Cluster {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let jobmanager = listener.local_addr().unwrap().port();
        drop(listener);
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Self { directory, server: S3Server::new(), daemons: Vec::new() };
        let file = cluster.path("credentials");
        let keys = format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n");
        fs::write(&file, keys).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let configuration = format!(
            "[jobmanager]\ncheckpoint-store = 's3://{BUCKET}/cluster'\nlisten = '127.0.0.1:{jobmanager}'\n\
             [taskmanager]\njobmanager = '127.0.0.1:{jobmanager}'\n\
             [s3]\nendpoint = '{}'\nregion = 'us-east-1'\ncredentials-file = 'credentials'\n",
            cluster.server.endpoint()
        );
        fs::write(cluster.path("tidegate.toml"), configuration).unwrap();
        for line in
            ["jobmanager --data jm", "taskmanager --data tm1 --slots 1", "taskmanager --data tm2 --slots 1"]
        {
            cluster.daemon(line);
        }
        cluster.until("the taskmanagers are connected", |cluster| {
            cluster.json("taskmanagers").is_some_and(|all| all.as_array().unwrap().len() == 2)
        });
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(&self.directory).env_clear().stdin(Stdio::null());
        command.env("HOME", self.directory.path());
        command
    }

    fn daemon(&mut self, line: &str) {
        let log = fs::File::create(self.path(&format!("log-{}", self.daemons.len()))).unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_tidegate"), line);
        self.daemons.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn run(&self, line: &str) -> Option<String> {
        let Output { status, stdout, stderr } =
            self.command(env!("CARGO_BIN_EXE_tidegate"), line).output().unwrap();
        if !status.success() {
            eprintln!("{line}: {}", String::from_utf8_lossy(&stderr));
            return None;
        }
        Some(String::from_utf8(stdout).unwrap())
    }

    fn json(&self, line: &str) -> Option<Value> {
        Some(serde_json::from_str(&self.run(&format!("{line} -o json"))?).unwrap())
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

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "waited for too long: {what}: {}", self.info());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills a process of the job.
    fn kill_process(&self, number: usize) {
        let pid = self.info()["processes"][number]["pid"].as_u64().unwrap();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }

    /// Waits until the job runs in a later attempt and has completed a checkpoint in it.
    fn until_it_goes_on(&self, attempt: u64) {
        self.until("the job runs again", |cluster| {
            cluster.attempt() > attempt && cluster.info()["state"] == "RUNNING"
        });
        let completed = self.completed();
        self.until("it completes checkpoints again", |cluster| cluster.completed() > completed);
    }

    fn lines(&self, directory: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.path(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("part-") {
                lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            }
        }
        lines.sort();
        lines
    }

    /// All files of daemons and job processes but the one with the credentials.
    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut directories) = (Vec::new(), vec![self.directory.path().to_owned()]);
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

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A program that cargo builds into the same directory as this test's if the whole workspace is built.
fn beside(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tidegate")).with_file_name(name);
    path.exists().then_some(path)
}

fn holds_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET_KEY.len()).any(|window| window == SECRET_KEY.as_bytes())
}

#[test]
fn a_job_with_its_snapshots_in_a_bucket_survives_kills_and_a_store_that_is_away() {
    let (Some(job), Some(generator)) = (beside(JOB), beside("sensor-data")) else {
        eprintln!("{JOB} is not built: nothing is tested; build the workspace first");
        return;
    };
    let mut cluster = Cluster::start();
    let line = "--out in --rows 300000 --devices 500 --rate 50000 --quiet";
    let mut generating = cluster.command(generator, line).stdout(Stdio::null()).spawn().unwrap();
    cluster.until("there are readings", |cluster| cluster.path("in/part-2.jsonl").exists());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/model/model.json");
    let arguments = |suffix: &str| {
        let model = model.display();
        format!("--input in --output out{suffix} --dead-letters dead{suffix} --model {model}")
    };
    let program = job.display();
    cluster
        .run(&format!("run -d -p 2 -D checkpoint.interval=200ms {program} -- --follow {}", arguments("")))
        .expect("the job is submitted");
    cluster.until("checkpoints are completed", |cluster| cluster.completed() >= 3);
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
    let check = format!("savepoint check {savepoint} {program} -- --follow {}", arguments(""));
    assert!(cluster.run(&check).expect("the savepoint fits").contains("goes on with its state"));

    assert!(generating.wait().unwrap().success());
    let drained = cluster.run(&format!("stop --drain --savepoint-path s3://{BUCKET}/mine {JOB}")).unwrap();
    assert!(drained.contains(&format!("s3://{BUCKET}/mine/savepoint-")), "{drained}");
    let alone =
        cluster.command(&job, &format!("{} --checkpoint-dir alone", arguments("-alone"))).output().unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    let (expected, found) = (cluster.lines("out-alone"), cluster.lines("out"));
    assert!(expected.len() > 1000 && expected == found, "{} and {} lines", expected.len(), found.len());

    let config = cluster.run("config").unwrap();
    assert!(config.contains("s3.credentials-file") && !holds_secret(config.as_bytes()), "{config}");
    for path in cluster.files() {
        assert!(!holds_secret(&fs::read(&path).unwrap()), "{}", path.display());
    }
}

#[test]
fn a_job_alone_refuses_a_bucket() {
    let Some(job) = beside(JOB) else { return };
    let directory = tempfile::tempdir().unwrap();
    let line = "--input in --output out --dead-letters dead --model m --checkpoint-dir s3://bucket/a";
    let output = Command::new(job).args(line.split_whitespace()).current_dir(&directory).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("a bucket has no lock") && !directory.path().join("s3:").exists(), "{error}");
}
