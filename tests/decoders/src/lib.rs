//! The decoders of everything that comes over a socket, and of manifests and plans, fed with arbitrary bytes.
//!
//! A [`Target`] runs one kind of decoder over bytes that anybody could have made. It panics if a decoder panics, or if what
//! was decoded is not what it is after it was encoded and decoded once more. Bytes that are refused are the usual case.
//!
//! `tests/any_bytes` runs every target over its seeds (`fuzz/seeds`) and mutations of them, as a part of `make test`, and
//! checks how much memory is taken. `fuzz/` has the same targets for cargo-fuzz: `make fuzz`.
//!
//! - [`engine`]: what the processes of an attempt send to each other.
//! - [`json`]: what is written as JSON.
//! - [`access`]: what is read before a peer has proved anything.
//!
//! Not here: HTTP and WebSocket frames (axum and tungstenite), and timely's framing of batches.

pub mod access;
pub mod engine;
pub mod json;

/// A kind of decoder.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its file in `fuzz/fuzz_targets`, and of its folder in `fuzz/seeds`.
    pub name: &'static str,
    /// Decodes bytes.
    pub run: fn(&[u8]),
    /// What the encoders write: the beginning of a corpus.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or its decoder has a defect.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").run)(bytes);
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "batch", run: engine::batch, seeds: engine::batches },
    Target { name: "peers", run: engine::peers, seeds: engine::peer_messages },
    Target { name: "hello", run: engine::hello, seeds: engine::hellos },
    Target { name: "handshake", run: access::handshake, seeds: access::handshakes },
    Target { name: "signature", run: access::signature, seeds: access::signatures },
    Target { name: "process", run: json::process, seeds: json::processes },
    Target { name: "taskmanager", run: json::taskmanager, seeds: json::taskmanagers },
    Target { name: "rest", run: json::rest, seeds: json::rests },
    Target { name: "manifest", run: json::manifest, seeds: json::manifests },
    Target { name: "plan", run: json::plan, seeds: json::plans },
];
