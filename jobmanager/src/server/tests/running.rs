//! A server that runs, and requests to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_access::{Request, Secret, new_nonce};
use tidegate_object_store::S3Settings;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::cluster_store::ClusterStore;
use crate::server::Server;
use crate::settings::{ConnectionLimits, JobDefaults, Settings};
use crate::{driver, ledger};

/// The server of a jobmanager, on a port of its own.
pub(super) struct Running {
    pub(super) runtime: Runtime,
    pub(super) address: SocketAddr,
    secret: Secret,
    _directory: TempDir,
}

/// What was answered.
pub(super) struct Answered {
    pub(super) status: u16,
    /// Null if it was empty.
    pub(super) body: Value,
    pub(super) has_proof: bool,
}

impl Running {
    pub(super) fn start() -> Self {
        Self::with_time(Duration::from_secs(10))
    }

    /// A server that waits for requests as long as this.
    pub(super) fn with_time(authentication: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secret = Secret::generate();
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            data: directory.path().join("data"),
            checkpoint_store: directory.path().join("store").display().to_string(),
            s3: S3Settings::of_environment(),
            secret: secret.clone(),
            lease: Duration::from_secs(60),
            job: JobDefaults::default(),
            metrics: None,
            connections: ConnectionLimits {
                total: 64,
                strangers: 32,
                strangers_per_address: 32,
                authentication,
            },
            tls: None,
        };
        let (log, ledger) = ledger::Log::open(&settings.data).unwrap();
        let (name, s3) = (&settings.checkpoint_store, settings.s3.clone());
        let store = ClusterStore::open(name, s3, &settings.data, false).unwrap();
        let driver = driver::start(&settings, &store, log, ledger).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind(settings.listen)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(&settings, store, driver);
        runtime.spawn(async move { server.serve(listener, None).await });
        Self { runtime, address, secret, _directory: directory }
    }

    /// The value of the header that signs a request.
    pub(super) fn sign(&self, request: &Request<'_>) -> String {
        self.sign_with(&self.secret, request)
    }

    /// The same with a secret that may be another one.
    pub(super) fn sign_with(&self, secret: &Secret, request: &Request<'_>) -> String {
        let challenge = self.unsigned("GET", "/v1/challenge").body;
        request.sign(secret, challenge["challenge"].as_str().unwrap(), 1, &new_nonce())
    }

    /// A signed request, with a body of JSON.
    pub(super) fn ask(&self, method: &str, target: &str, body: Option<&[u8]>) -> Answered {
        let signature = self.sign(&Request::of(method, target, body.unwrap_or_default()));
        self.send(method, target, Some(signature), body.map(|body| (body, "application/json")))
    }

    /// A signed request, with a body of another type.
    pub(super) fn untyped(&self, method: &str, target: &str, body: &[u8]) -> Answered {
        let signature = self.sign(&Request::of(method, target, body));
        self.send(method, target, Some(signature), Some((body, "application/octet-stream")))
    }

    pub(super) fn unsigned(&self, method: &str, target: &str) -> Answered {
        self.send(method, target, None, None)
    }

    /// Sends the head of a request, whose body has this length and does not come.
    pub(super) fn head(&self, method: &str, target: &str, signature: Option<&str>, length: u64) -> Answered {
        let signature = signature.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{signature}\r\n"
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        answer_on(stream)
    }

    pub(super) fn send(
        &self,
        method: &str,
        target: &str,
        signature: Option<String>,
        body: Option<(&[u8], &str)>,
    ) -> Answered {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
        let agent: ureq::Agent = config.build().into();
        let request = ureq::http::Request::builder().method(method);
        let mut request = request.uri(format!("http://{}{target}", self.address));
        if let Some(signature) = signature {
            request = request.header("authorization", signature);
        }
        let sent = match body {
            Some((body, kind)) => agent.run(request.header("content-type", kind).body(body).unwrap()),
            None => agent.run(request.body(()).unwrap()),
        };
        let mut response = sent.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        let text = response.body_mut().read_to_string().unwrap();
        let body = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
        Answered {
            status: response.status().as_u16(),
            body: body.unwrap_or_else(|error| panic!("{method} {target} has answered {text}: {error}")),
            has_proof: response.headers().contains_key("tidegate-proof"),
        }
    }
}

/// The answer on a connection that the server closes after it.
pub(super) fn answer_on(mut stream: TcpStream) -> Answered {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let has_proof = head.to_ascii_lowercase().contains("\r\ntidegate-proof: ");
    Answered { status, body: serde_json::from_str(body).unwrap(), has_proof }
}
