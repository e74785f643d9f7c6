//! Brokers that let only those in who prove who they are, and do only what they may.

use std::sync::OnceLock;

use tempfile::TempDir;
use tidegate::testing::TestJob;
use tidegate_connectors::kafka::{Kafka, KafkaSetting};
use tidegate_kafka_tests::{Brokers, Secure};
use tidegate_test_certificates::Authority;

use crate::Test;
use crate::setting::{Setting, copy, numbers};

pub(crate) const TESTS: &[Test] = &[
    ("security::a_job_reads_and_writes_by_sasl_over_tls", by_sasl_over_tls),
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
            Self { setting: Setting::of(brokers), directory, address }
        })
    }

    fn kafka(&self, user: &str, password: &str) -> Kafka {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let settings = [
            ("bootstrap.servers", self.address.clone()),
            ("security.protocol", "sasl_ssl".to_owned()),
            ("sasl.mechanisms", "PLAIN".to_owned()),
            ("sasl.username", user.to_owned()),
            ("sasl.password", format!("file:{}", path(password))),
            ("ssl.ca.location", path("ca.pem")),
            ("ssl.certificate.location", path("job.pem")),
            ("ssl.key.location", path("job.key")),
        ];
        Kafka::new(settings.map(|(key, value)| KafkaSetting::new(key, &value).unwrap()))
    }

    fn copy(&self, user: &str, password: &str, from: &str, to: &str) -> TestJob {
        copy(self.kafka(user, password), from, to, true)
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
    let (from, to) = (setting.topic(1), setting.topic(1));
    guarded.allow("job", &["--operation", "All", "--topic", &from]);
    guarded.allow("job", &["--operation", "All", "--topic", &to]);
    guarded.allow(
        "job",
        &["--operation", "Read", "--group", "tidegate.", "--resource-pattern-type", "prefixed"],
    );
    let ids = ["--transactional-id", "tidegate.", "--resource-pattern-type", "prefixed"];
    guarded.allow("job", &[&["--operation", "Write", "--operation", "Describe"], &ids[..]].concat());
    setting.client.write(&from, 0, numbers(0..10));
    let running = guarded.copy("job", "password", &from, &to).start();
    running.checkpoint();
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..10));

    let error = guarded.copy("job", "wrong", &from, &to).run().unwrap_err().to_string();
    assert!(error.contains("check sasl.username, sasl.password") && !error.contains("letmein"), "{error}");
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
