//! The document against the server: every operation is asked for, and every answer is one that the document describes.

mod bodies;
mod contract;
mod running;
mod taskmanager;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_access::Request;

use contract::Contract;
use running::{Answered, Running};
use taskmanager::Stays;

const EXECUTABLE: &[u8] = b"the taskmanager of this test runs no programs";
const JOB: &str = "00112233445566778899aabbccddeeff";

/// A server, and what its answers are compared with.
struct Story {
    server: Running,
    contract: Contract,
}

impl Story {
    fn begin() -> Self {
        Self::with(Running::start())
    }

    fn with(server: Running) -> Self {
        let document = server.unsigned("GET", "/v1/openapi.json").body;
        Self { server, contract: Contract::new(document) }
    }

    /// Asks for something; the answer must be a documented one.
    fn ask(&mut self, method: &str, target: &str, body: Option<Value>) -> Answered {
        let body = body.map(|body| body.to_string().into_bytes());
        let answered = self.server.ask(method, target, body.as_deref());
        self.contract.hold(method, target, &answered);
        answered
    }

    fn get(&mut self, target: &str) -> Value {
        let answered = self.ask("GET", target, None);
        assert_eq!(answered.status, 200, "GET {target}: {}", answered.body);
        answered.body
    }

    fn done(&mut self, method: &str, target: &str, body: Value) -> Value {
        let answered = self.ask(method, target, Some(body));
        assert_eq!(answered.status, 200, "{method} {target}: {}", answered.body);
        answered.body
    }

    /// Asks until the answer is the expected one.
    fn until(&mut self, target: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let began = std::time::Instant::now();
        loop {
            let body = self.get(target);
            if is_expected(&body) {
                return body;
            }
            assert!(began.elapsed().as_secs() < 60, "GET {target} goes on answering {body}");
        }
    }

    /// The savepoint that was triggered.
    fn location(&mut self, triggered: &Value) -> String {
        let number = triggered["request-id"].as_str().unwrap();
        let target = format!("/v1/jobs/{JOB}/savepoints/{number}");
        let over = self.until(&target, |operation| operation["status"] == "COMPLETED");
        over["location"].as_str().unwrap_or_else(|| panic!("{over}")).to_owned()
    }

    fn upload(&mut self) -> String {
        let id: String = Sha256::digest(EXECUTABLE).iter().map(|byte| format!("{byte:02x}")).collect();
        let target = format!("/v1/executables?sha256={id}");
        let answered = self.server.untyped("POST", &target, EXECUTABLE);
        self.contract.hold("POST", &target, &answered);
        assert_eq!(answered.body, json!({"id": id, "bytes": EXECUTABLE.len()}));
        id
    }
}

/// Every operation on a job that runs, from the upload of its executable to its end.
fn life_of_a_job(story: &mut Story) {
    story.get("/v1/overview");
    taskmanager::connect(&story.server, "tm-1", Stays::Always);
    story.contract.has_seen("GET", "/v1/taskmanagers/link", 101);
    story.until("/v1/taskmanagers", |list| list["taskmanagers"][0]["free"] == 4);
    let executable = format!("/v1/executables/{}", story.upload());
    story.done("POST", &format!("{executable}/plan"), json!({"arguments": ["--limit", "5"]}));
    let run =
        json!({"jobid": JOB, "arguments": ["--limit", "5"], "settings": {"checkpoint.interval": "100ms"}});
    story.done("POST", &format!("{executable}/run"), run);
    let job = format!("/v1/jobs/{JOB}");
    story.until(&job, |details| details["state"] == "RUNNING");
    story.until(&format!("{job}/checkpoints"), |all| all["history"][0]["status"] == "COMPLETED");
    let why = story.get(&format!("{job}/why"));
    assert_eq!(why["watermark"]["held-back-by"], "partition", "{why}");
    let logs = story.get(&format!("{job}/logs?attempt=1&from=0"));
    assert_eq!(logs["logs"][0]["text"], "a line\n");
    let triggered = story.done("POST", &format!("{job}/savepoints"), json!({}));
    let snapshot = story.location(&triggered);
    let check = json!({"arguments": [], "snapshot": snapshot});
    let fits = story.done("POST", &format!("{executable}/check"), check);
    assert_eq!(fits["fits"], true, "{fits}");
    let parallelism = story.get(&format!("{job}/resource-requirements"));
    story.done("PUT", &format!("{job}/resource-requirements"), parallelism);
    story.get("/v1/jobs");
    story.get("/v1/jobs/overview");
    story.get(&format!("{job}/exceptions"));
    story.done("POST", &format!("{job}/stop"), json!({"drain": false}));
    story.done("PATCH", &format!("{job}?mode=cancel"), json!(null));
    let end = story.until(&job, |details| !details["end-time"].is_null());
    assert!(["CANCELED", "FINISHED"].contains(&end["state"].as_str().unwrap()), "{end}");
}

/// A taskmanager that is gone holds up nobody who asks for a log.
#[test]
fn the_logs_of_taskmanagers_that_answer_are_read() {
    let mut story = Story::begin();
    taskmanager::connect(&story.server, "tm-1", Stays::Always);
    taskmanager::connect(&story.server, "tm-2", Stays::UntilAsked);
    story.until("/v1/overview", |totals| totals["slots-available"] == 8);
    let executable = format!("/v1/executables/{}", story.upload());
    story.done(
        "POST",
        &format!("{executable}/run"),
        json!({"jobid": JOB, "arguments": [], "parallelism": 8}),
    );
    let job = format!("/v1/jobs/{JOB}");
    story.until(&job, |details| details["state"] == "RUNNING");
    let silent = |host: &str, reason: &str| json!([{"taskmanager": "tm-2", "host": host, "reason": reason}]);
    for reason in ["the connection to it broke", "it is not connected to the jobmanager"] {
        let logs = story.get(&format!("{job}/logs?attempt=1&from=0"));
        let expected = json!([{"taskmanager": "tm-1", "text": "a line\n", "position": 7}]);
        assert_eq!(logs, json!({"logs": expected, "silent": silent("host-1", reason)}));
    }
    let unknown = story.get(&format!("{job}/logs?taskmanager=tm-7"));
    assert_eq!(unknown["silent"][0]["host"], "", "{unknown}");
}

/// What is wrong is answered as documented, too.
fn failures(story: &mut Story) {
    let unknown = "/v1/jobs/ffffffffffffffffffffffffffffffff";
    for path in
        ["", "/checkpoints", "/exceptions", "/savepoints/7", "/resource-requirements", "/logs", "/why"]
    {
        assert_eq!(story.ask("GET", &format!("{unknown}{path}"), None).status, 404, "{path}");
        assert_eq!(story.ask("GET", &format!("/v1/jobs/no-id{path}"), None).status, 400, "{path}");
    }
    assert_eq!(story.ask("GET", &format!("{unknown}/logs?attempt=x"), None).status, 400);
    assert_eq!(story.ask("PATCH", &format!("{unknown}?mode=other"), None).status, 400);
    assert_eq!(story.ask("GET", "/v1/taskmanagers/link", None).status, 400);
    let bodies = [("POST", format!("{unknown}/savepoints")), ("POST", format!("{unknown}/stop"))];
    let more = ["run", "plan", "check"].map(|verb| ("POST", format!("/v1/executables/00/{verb}")));
    let put = [("PUT", format!("{unknown}/resource-requirements"))];
    for (method, target) in bodies.into_iter().chain(more).chain(put) {
        assert_eq!(story.ask(method, &target, Some(json!(7))).status, 422, "{target}");
        let cut_off = story.server.ask(method, &target, Some(b"{"));
        story.contract.hold(method, &target, &cut_off);
        assert_eq!(cut_off.status, 400, "{target}");
        let long = story.server.ask(method, &target, Some(&vec![b' '; (1 << 20) + 1]));
        story.contract.hold(method, &target, &long);
        assert_eq!(long.status, 413, "{target}");
        let untyped = story.server.untyped(method, &target, b"{}");
        story.contract.hold(method, &target, &untyped);
        assert_eq!(untyped.status, 415, "{target}");
    }
    let none = json!({"parallelism": 0});
    assert!(!story.contract.takes("PUT", &format!("{unknown}/resource-requirements"), &none));
    let none = json!({"jobid": JOB, "parallelism": 0});
    assert!(!story.contract.takes("POST", "/v1/executables/00/run", &none));
    assert_eq!(story.ask("POST", "/v1/executables/00/run", Some(none)).status, 400);
    let settings = json!({"jobid": JOB, "settings": {"no.such": "key"}});
    assert_eq!(story.ask("POST", "/v1/executables/00/run", Some(settings)).status, 409);
    let again = story.server.untyped("POST", "/v1/executables?sha256=00", EXECUTABLE);
    story.contract.hold("POST", "/v1/executables", &again);
    assert_eq!(again.status, 400);
}

/// A request that does not arrive is waited for as long as is set.
fn slow_requests() {
    let mut story = Story::with(Running::with_time(Duration::from_secs(1)));
    for target in ["/v1/overview", "/v1/executables/00/run"] {
        let method = if target == "/v1/overview" { "GET" } else { "POST" };
        let signature = story.server.sign(&Request::of(method, target, b"{}"));
        let answered = story.server.head(method, target, Some(&signature), 2);
        story.contract.hold(method, target, &answered);
        assert_eq!((answered.status, answered.has_proof), (408, true), "{target}");
    }
}

/// The document says which operations need a signature.
fn without_a_signature(story: &mut Story) {
    for (method, path) in story.contract.operations() {
        let target = path.replace(['{', '}'], "");
        let answered = story.server.unsigned(&method, &format!("{target}?sha256={}", "00".repeat(32)));
        let expected = if story.contract.is_signed(&method, &path) { 401 } else { 200 };
        assert_eq!(answered.status, expected, "{method} {path}");
        story.contract.hold(&method, &target, &answered);
    }
}

/// A method that the document does not have is refused, by the server itself.
fn other_methods(story: &mut Story) {
    let operations: BTreeSet<_> = story.contract.operations().into_iter().collect();
    let paths: BTreeSet<_> = operations.iter().map(|(_, path)| path.clone()).collect();
    for path in paths {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            if !operations.contains(&(method.to_owned(), path.clone())) {
                let target = path.replace("{job}", JOB).replace(['{', '}'], "");
                let status = story.server.ask(method, &target, None).status;
                // A job's path may end in what is another path's word: no job has that id.
                assert!([404, 405].contains(&status), "{method} {path}: {status}");
            }
        }
    }
}

#[test]
fn the_server_answers_as_its_document_says() {
    let mut story = Story::begin();
    life_of_a_job(&mut story);
    failures(&mut story);
    without_a_signature(&mut story);
    other_methods(&mut story);
    slow_requests();
    assert_eq!(story.contract.not_done(), Vec::<String>::new(), "nobody has asked for these successfully");
}

#[test]
fn the_document_is_the_one_in_docs() {
    let server = Running::start();
    let answered = server.unsigned("GET", "/v1/openapi.json");
    let text = serde_json::to_string_pretty(&answered.body).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == text,
        "docs/openapi.json is not what the server serves; UPDATE_GOLDENFILES=1 writes it anew"
    );
}
