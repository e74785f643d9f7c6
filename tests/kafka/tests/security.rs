//! Brokers that let only those in who prove who they are, and do only what they may.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tidegate::testing::TestJob;
use tidegate_connectors::kafka::Kafka;
use tidegate_kafka_tests::{Brokers, Secure};
use tidegate_test_certificates::Authority;

use crate::Test;
use crate::setting::{Setting, copy, kafka, numbers};

pub(crate) const TESTS_WITH_OWN_BROKERS: &[Test] = &[
    ("security::a_job_reads_and_writes_by_sasl_over_tls", by_sasl_over_tls),
    ("security::passwords_that_are_noted_in_kafka_and_tokens_are_taken", by_scram_and_tokens),
    ("security::a_right_that_is_missing_is_named", a_missing_right),
];

/// Brokers with a second listener, which takes SASL over TLS and certificates of clients, shared by the tests.
struct Guarded {
    setting: Setting,
    directory: TempDir,
    address: String,
}

const PASSWORD: &str = "hunter2";

impl Guarded {
    fn get() -> &'static Self {
        static GUARDED: OnceLock<Guarded> = OnceLock::new();
        GUARDED.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::new(directory.path());
            let node = authority.issue("node", &["127.0.0.1"]);
            authority.issue("job", &["job"]);
            std::fs::write(directory.path().join("password"), format!("{PASSWORD}\n")).unwrap();
            std::fs::write(directory.path().join("wrong"), "letmein\n").unwrap();
            let users = [("job", PASSWORD), ("reader", PASSWORD)];
            let secure =
                Secure { certificate: &node.certificate, key: &node.key, authority: &node.ca, users: &users };
            let brokers = Brokers::start_secure(&secure).expect("others have started");
            let address = brokers.secure().to_owned();
            let this = Self { setting: Setting::of(brokers), directory, address };
            let prefixed = |kind| [kind, "tidegate.", "--resource-pattern-type", "prefixed"];
            this.allow("job", &[&["--operation", "Read"][..], &prefixed("--group")].concat());
            let write = ["--operation", "Write", "--operation", "Describe"];
            this.allow("job", &[&write[..], &prefixed("--transactional-id")].concat());
            this
        })
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// The settings of clients that prove who they are by these.
    fn kafka(&self, sasl: &[(&str, &str)]) -> Kafka {
        let settings = [
            ("bootstrap.servers", &*self.address),
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", &self.path("ca.pem")),
            ("ssl.certificate.location", &self.path("job.pem")),
            ("ssl.key.location", &self.path("job.key")),
        ];
        kafka(settings.iter().chain(sasl))
    }

    fn copy(&self, user: &str, password: &str, from: &str, to: &str) -> TestJob {
        let password = format!("file:{}", self.path(password));
        let sasl = [("sasl.mechanisms", "PLAIN"), ("sasl.username", user), ("sasl.password", &*password)];
        copy(self.kafka(&sasl), from, to, true)
    }

    /// Two topics that the user `job` may read and write exactly once.
    fn topics(&self) -> (String, String) {
        let (from, to) = (self.setting.topic(1), self.setting.topic(1));
        self.allow("job", &["--operation", "All", "--topic", &from, "--topic", &to]);
        (from, to)
    }

    fn allow(&self, user: &str, arguments: &[&str]) {
        let principal = format!("User:{user}");
        let all = ["--add", "--force", "--allow-principal", &principal];
        self.setting.brokers.tool("AclCommand", &[&all, arguments].concat());
    }
}

fn by_sasl_over_tls(_: &Setting) {
    let guarded = Guarded::get();
    let setting = &guarded.setting;
    let (from, to) = guarded.topics();
    setting.client.write(&from, 0, numbers(0..10));
    let running = guarded.copy("job", "password", &from, &to).start();
    running.checkpoint();
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..10));

    let error = guarded.copy("job", "wrong", &from, &to).run().unwrap_err().to_string();
    assert!(error.contains("check sasl.username, sasl.password") && !error.contains("letmein"), "{error}");
}

fn by_scram_and_tokens(_: &Setting) {
    let guarded = Guarded::get();
    let setting = &guarded.setting;
    let noted = format!("SCRAM-SHA-256=[password={PASSWORD}]");
    let note = ["--alter", "--add-config", &noted, "--entity-type", "users", "--entity-name", "job"];
    setting.brokers.tool("ConfigCommand", &note);
    std::fs::write(guarded.path("token"), "principal=job\n").unwrap();
    let (password, token) =
        (format!("file:{}", guarded.path("password")), format!("file:{}", guarded.path("token")));
    let scram =
        [("sasl.mechanisms", "SCRAM-SHA-256"), ("sasl.username", "job"), ("sasl.password", &*password)];
    let unsecured = [
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", &*token),
    ];
    let url = token_endpoint();
    let from_endpoint = [
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.token.endpoint.url", &*url),
        ("sasl.oauthbearer.client.id", "plant"),
        ("sasl.oauthbearer.client.secret", &*password),
    ];
    for sasl in [&scram[..], &unsecured, &from_endpoint] {
        let (from, to) = guarded.topics();
        setting.client.write(&from, 0, numbers(0..10));
        let running = copy(guarded.kafka(sasl), &from, &to, true).start();
        running.checkpoint();
        running.stop().unwrap();
        setting.expect(&to, &numbers(0..10));
    }
}

/// Gives the client `plant` tokens with the name of the user `job`, which expire in ten seconds; the address of where it does.
fn token_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let expected = format!("Basic {}", STANDARD.encode(format!("plant:{PASSWORD}")));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (status, answer) = match read_request(&mut stream) {
                (authorization, body) if authorization == expected && body.contains("client_credentials") => {
                    (200, format!(r#"{{"access_token": "{}", "token_type": "bearer"}}"#, token()))
                }
                _ => (401, r#"{"error": "invalid_client"}"#.to_owned()),
            };
            let head =
                format!("HTTP/1.1 {status} It\r\nContent-Type: application/json\r\nConnection: close\r\n");
            write!(stream, "{head}Content-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        }
    });
    url
}

/// What a request has as Authorization, and its body.
fn read_request(stream: &mut impl Read) -> (String, String) {
    let (mut reader, mut authorization, mut length) = (BufReader::new(stream), String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap_or_default();
        match &*name.to_ascii_lowercase() {
            "authorization" => authorization = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (authorization, String::from_utf8(body).unwrap())
}

/// A token that is not signed, as RFC 7519 has it.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = format!(r#"{{"sub": "job", "iat": {now}, "exp": {}}}"#, now + 10);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg": "none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

fn a_missing_right(_: &Setting) {
    let guarded = Guarded::get();
    let setting = &guarded.setting;
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = guarded.copy("reader", "password", &from, &to);
    let refused = |part: &str| {
        let error = job.run().unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    refused("the right to read or write the topic");
    guarded.allow("reader", &["--operation", "Describe", "--topic", &from]);
    guarded.allow("reader", &["--operation", "Describe", "--topic", &to]);
    refused("needs the right");
    guarded.allow("reader", &["--operation", "Read", "--topic", &from]);
    refused("needs the rights Write and Describe for its transactional ids");
    let ids = ["--transactional-id", "tidegate.", "--resource-pattern-type", "prefixed"];
    guarded.allow("reader", &[&["--operation", "Write", "--operation", "Describe"], &ids[..]].concat());
    refused("needs the right Read for the consumer group");
    guarded.allow(
        "reader",
        &["--operation", "Read", "--group", "tidegate.", "--resource-pattern-type", "prefixed"],
    );
    refused("the right to read or write the topic");
    guarded.allow("reader", &["--operation", "Write", "--topic", &to]);
    // The marker is an offset of the topic.
    refused("the right to read or write the topic");
    guarded.allow("reader", &["--operation", "Read", "--topic", &to]);
    let running = job.start();
    running.checkpoint();
    setting.expect(&to, &numbers(0..10));

    // A right that is taken back while the job runs.
    let principal = "User:reader";
    let taken =
        ["--remove", "--force", "--allow-principal", principal, "--operation", "Write", "--topic", &to];
    setting.brokers.tool("AclCommand", &taken);
    setting.client.write(&from, 0, numbers(10..20));
    let error = running.wait().unwrap_err().to_string();
    assert!(error.contains("the right to read or write the topic") && error.contains(&to), "{error}");
    guarded.allow("reader", &["--operation", "Write", "--topic", &to]);
    let running = job.start();
    running.checkpoint();
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..20));
}
