//! Apache Kafka for a test: nodes of its own, started by `scripts/kafka.sh`, or those of the variable `KAFKA_BOOTSTRAP`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Brokers that a test may use, and end if they are its own.
pub struct Brokers {
    bootstrap: String,
    secure: String,
    own: Option<Own>,
}

/// What a second listener asks of its clients: TLS, with certificates of this authority, and the name and password of a user (SASL PLAIN, or
/// SCRAM if they are noted in Kafka), or a token with the name (OAUTHBEARER, and it takes any that has not expired). Users may do nothing
/// until they are allowed to; who comes by the first listener may do everything.
pub struct Secure<'a> {
    /// The nodes' certificate.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
    /// What has issued the certificates of clients.
    pub authority: &'a Path,
    /// Users with their passwords.
    pub users: &'a [(&'a str, &'a str)],
}

struct Own {
    directory: tempfile::TempDir,
    host: Host,
    port: u16,
}

/// Where Kafka's ways to prove who one is are.
const SECURITY: &str = "org.apache.kafka.common.security";

/// Where nodes run.
#[derive(Clone, Debug)]
pub struct Host {
    /// The address of the host.
    pub address: String,
    /// A command that runs there what follows it, as `nsenter` does for a network namespace; empty for this host.
    pub command: Vec<String>,
}

impl Default for Host {
    fn default() -> Self {
        Self { address: "127.0.0.1".to_owned(), command: Vec::new() }
    }
}

impl Brokers {
    /// Those of the variable `KAFKA_BOOTSTRAP`, or one node of its own.
    ///
    /// # Errors
    /// Why there is none: Java or the artifacts of Kafka are missing and cannot be fetched.
    pub fn any() -> Result<Self, String> {
        match std::env::var("KAFKA_BOOTSTRAP") {
            Ok(bootstrap) if !bootstrap.is_empty() => {
                Ok(Self { bootstrap, secure: String::new(), own: None })
            }
            _ => Self::start(1, &[]),
        }
    }

    /// Why no nodes can be started on this machine; None if they can. What they need is fetched, if it may be.
    pub fn obstacle() -> Option<String> {
        match Command::new(script()).arg("jars").stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// So many nodes of its own, with lines that are added to their configuration.
    ///
    /// # Errors
    /// Why they do not start.
    pub fn start(nodes: usize, properties: &[&str]) -> Result<Self, String> {
        Self::start_on(Host::default(), nodes, properties)
    }

    /// The same on another host.
    ///
    /// # Errors
    /// Why they do not start.
    pub fn start_on(host: Host, nodes: usize, properties: &[&str]) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let own = Own { directory, host, port: free_port(nodes)? };
        Self::start_own(own, nodes, properties)
    }

    /// One node of its own with a second listener.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start_secure(secure: &Secure<'_>) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let own = Own { directory, host: Host::default(), port: free_port(1)? };
        let store = own.directory.path().join("keystore.pem");
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
        let content = read(secure.key)? + &read(secure.certificate)?;
        std::fs::write(&store, content).map_err(|error| error.to_string())?;
        let address = format!("127.0.0.1:{}", own.port + 2);
        let properties = secure.properties(own.port, &address, &store);
        let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
        Ok(Self { secure: address, ..Self::start_own(own, 1, &properties)? })
    }

    fn start_own(own: Own, nodes: usize, properties: &[&str]) -> Result<Self, String> {
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
        Ok(Self { bootstrap, secure: String::new(), own: Some(own) })
    }

    /// Where the brokers are.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where the second listener is.
    pub fn secure(&self) -> &str {
        &self.secure
    }

    /// Runs a tool of Kafka's on the brokers.
    pub fn tool(&self, class: &str, arguments: &[&str]) {
        let own = self.own.as_ref().expect("a test of its own brokers");
        let output = own.script(&[&["tool", class], arguments].concat()).output().expect("the script starts");
        assert!(output.status.success(), "{class} {arguments:?}: {output:?}");
    }

    /// Ends a node as by kill -9; nodes are counted from 1.
    ///
    /// # Errors
    /// If there is no such node, or it has ended by itself.
    pub fn kill(&self, node: usize) -> Result<(), String> {
        self.run("kill", node)
    }

    /// Starts a node again.
    ///
    /// # Errors
    /// If there is no such node, or it has ended by itself.
    pub fn restart(&self, node: usize) -> Result<(), String> {
        self.run("start", node)
    }

    /// Stops a node as it is.
    ///
    /// # Errors
    /// If there is no such node, or it has ended by itself.
    pub fn pause(&self, node: usize) -> Result<(), String> {
        self.run("pause", node)
    }

    /// Lets a node go on.
    ///
    /// # Errors
    /// If there is no such node, or it has ended by itself.
    pub fn go_on(&self, node: usize) -> Result<(), String> {
        self.run("cont", node)
    }

    /// The last lines that a node has logged.
    pub fn last_lines(&self, node: usize, lines: usize) -> Vec<String> {
        let log = self.own.as_ref().map(|own| own.directory.path().join(format!("{node}.log")));
        let text = log.and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }

    fn run(&self, verb: &str, node: usize) -> Result<(), String> {
        let own = self.own.as_ref().ok_or("the brokers are not this program's own")?;
        let mut script = own.script(&[verb, &node.to_string()]);
        let output = script.stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("kafka.sh {verb} {node}: {}: {}", output.status, said.trim()))
    }
}

impl Secure<'_> {
    fn properties(&self, port: u16, address: &str, store: &Path) -> Vec<String> {
        let users: String =
            self.users.iter().map(|(user, password)| format!(" user_{user}=\"{password}\"")).collect();
        let client = format!("CLIENT://127.0.0.1:{port}");
        vec![
            format!("listeners={client},CONTROL://127.0.0.1:{},SECURE://{address}", port + 1),
            format!("advertised.listeners={client},SECURE://{address}"),
            "listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROL:PLAINTEXT,SECURE:SASL_SSL".to_owned(),
            "listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER".to_owned(),
            format!(
                "listener.name.secure.plain.sasl.jaas.config={SECURITY}.plain.PlainLoginModule required{users};"
            ),
            format!(
                "listener.name.secure.scram-sha-256.sasl.jaas.config={SECURITY}.scram.ScramLoginModule required;"
            ),
            format!(
                "listener.name.secure.oauthbearer.sasl.jaas.config={SECURITY}.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "listener.name.secure.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.secure.ssl.keystore.location={}", store.display()),
            "listener.name.secure.ssl.truststore.type=PEM".to_owned(),
            format!("listener.name.secure.ssl.truststore.location={}", self.authority.display()),
            "listener.name.secure.ssl.client.auth=required".to_owned(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            "super.users=User:ANONYMOUS".to_owned(),
        ]
    }
}

impl Own {
    fn script(&self, arguments: &[&str]) -> Command {
        let mut words = self.host.command.iter().map(PathBuf::from).chain([script()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        let owner = std::process::id().to_string();
        command
            .args(arguments)
            .env("KAFKA_DIR", self.directory.path())
            .env("KAFKA_HOST", &self.host.address)
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

/// The first of a range of ports that nobody uses now, and no other test of this process is about to use.
fn free_port(nodes: usize) -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |first: u16| {
        let ports = (0..nodes as u16).flat_map(|node| (0..3).map(move |port| first + 10 * node + port));
        ports.map(|port| TcpListener::bind(("127.0.0.1", port))).all(|bound| bound.is_ok())
    };
    // Below the ports that the system gives to clients, and another one for every process.
    let begin = (std::process::id() % 200) as u16;
    let mut candidates = (0..200).map(|_| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 200 * 50);
    candidates
        .find(|first| is_free(*first))
        .ok_or_else(|| "no port between 20000 and 30000 is free".to_owned())
}
