//! What a jobmanager answers, as JSON.

use serde_json::{Value, json};

use crate::fake::{Answer, Asked};

/// The id of the job in most tests.
pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef";

/// A job in a list.
pub(crate) fn summary(id: &str, name: &str, state: &str) -> Value {
    json!({
        "jid": id, "name": name, "state": state, "start-time": 1_700_000_000_000_u64, "end-time": null, "duration": 61_000,
        "parallelism": 2, "attempt": 1
    })
}

/// A job in this state, with two workers.
pub(crate) fn details(state: &str) -> Value {
    let mut details = summary(ID, "orders", state);
    let more = json!({
        "max-parallelism": 128, "waits-for": null, "failure": null, "restarts": 0,
        "processes": [{"taskmanager": "tm-1", "pid": 17, "slots": [0, 1]}],
        "checkpoints": {"completed": 4, "aborted": 1, "last-epoch": 5},
        "executable": "ab12", "arguments": ["--input", "x"], "totals": {}, "checkpoint-directory": "/store/orders"
    });
    details.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    details
}

/// The same with other values of some fields.
pub(crate) fn with(mut details: Value, changes: Value) -> Value {
    details.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    details
}

/// The answer to a request for a path that is not there.
pub(crate) fn not_found(asked: &Asked) -> Answer {
    (404, json!({"error": format!("there is nothing at {} {}", asked.method, asked.target)}))
}

/// Answers a request for a job, and leaves all others to `other`.
pub(crate) fn job(
    asked: &Asked,
    details: impl FnOnce() -> Value,
    other: impl FnOnce() -> Option<Value>,
) -> Answer {
    if (&*asked.method, &*asked.target) == ("GET", &format!("/v1/jobs/{ID}")) {
        return (200, details());
    }
    other().map_or_else(|| not_found(asked), |value| (200, value))
}
