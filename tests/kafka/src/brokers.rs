//! Apache Kafka for a test: nodes of its own, started by `scripts/kafka.sh`, or those of the variable `KAFKA_BOOTSTRAP`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Brokers that a test may use, and end if they are its own.
pub struct Brokers {
    bootstrap: String,
    own: Option<Own>,
}

struct Own {
    directory: tempfile::TempDir,
    port: u16,
}

impl Brokers {
    /// Those of the variable `KAFKA_BOOTSTRAP`, or one node of its own.
    ///
    /// # Errors
    /// Why there is none: Java or the artifacts of Kafka are missing and cannot be fetched.
    pub fn any() -> Result<Self, String> {
        match std::env::var("KAFKA_BOOTSTRAP") {
            Ok(bootstrap) if !bootstrap.is_empty() => Ok(Self { bootstrap, own: None }),
            _ => Self::start(1, &[]),
        }
    }

    /// So many nodes of its own, with lines that are added to their configuration.
    ///
    /// # Errors
    /// Why they do not start.
    pub fn start(nodes: usize, properties: &[&str]) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let own = Own { directory, port: free_port(nodes)? };
        let nodes = nodes.to_string();
        let output = own
            .script(&["up", &nodes])
            .env("KAFKA_PROPERTIES", properties.join("\n"))
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let bootstrap = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { bootstrap, own: Some(own) })
    }

    /// Where the brokers are.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Ends a node as by kill -9; nodes are counted from 1.
    pub fn kill(&self, node: usize) {
        self.run("kill", node);
    }

    /// Starts a node again.
    pub fn restart(&self, node: usize) {
        self.run("start", node);
    }

    /// Stops a node as it is.
    pub fn pause(&self, node: usize) {
        self.run("pause", node);
    }

    /// Lets a node go on.
    pub fn go_on(&self, node: usize) {
        self.run("cont", node);
    }

    fn run(&self, verb: &str, node: usize) {
        let own = self.own.as_ref().expect("a test of its own brokers");
        let status = own.script(&[verb, &node.to_string()]).status().expect("the script starts");
        assert!(status.success(), "kafka.sh {verb} {node}: {status}");
    }
}

impl Own {
    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(script());
        let owner = std::process::id().to_string();
        command
            .args(arguments)
            .env("KAFKA_DIR", self.directory.path())
            .env("KAFKA_PORT", self.port.to_string());
        command.env("KAFKA_OWNER", owner).stdin(Stdio::null());
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.script(&["down"]).status());
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka.sh")
}

/// The first of a range of ports that nobody uses now.
fn free_port(nodes: usize) -> Result<u16, String> {
    let is_free = |first: u16| {
        let ports = (0..nodes as u16).flat_map(|node| [first + 10 * node, first + 10 * node + 1]);
        ports.map(|port| TcpListener::bind(("127.0.0.1", port))).all(|bound| bound.is_ok())
    };
    // Below the ports that the system gives to clients, and another one for every process.
    let begin = 20_000 + (std::process::id() % 200) as u16 * 50;
    let mut candidates = (begin..30_000).chain(20_000..begin).step_by(50);
    candidates
        .find(|first| is_free(*first))
        .ok_or_else(|| "no port between 20000 and 30000 is free".to_owned())
}
