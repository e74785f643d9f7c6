//! Proofs that a peer has the same secret, without sending the secret.
//!
//! - [`Secret`]: text in a file that all processes of a cluster have, or random bytes that the processes of one attempt
//!   have.
//! - [`Request`] and [`Challenges`]: an HTTP request that is signed with the secret, and the server's side, which verifies
//!   it. A [`Proof`] in the response shows the client that the server has the secret, too.
//! - [`handshake`]: two processes at the ends of a byte stream prove the secret to each other.
//!
//! Every proof is an HMAC-SHA-256 over a purpose and a list of parts ([`Secret::mac`]), so that a proof for one purpose
//! is not valid for another.
//!
//! Not here: sockets and HTTP (the caller has the stream and the headers), clocks (time comes in), timeouts (the caller
//! sets them on its socket), encryption (crate `tidegate-transport`). Without that an attacker who can read the network
//! traffic can read requests, responses and records, but not the secret. One who can change the traffic can change responses, and the data after a handshake. A
//! request is not bound to one server: an attacker who can redirect connections can have a signed request processed, once,
//! by another server with the same secret.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_access::{Challenges, Request, Secret, new_nonce, verify_proof};
//!
//! let secret = Secret::of(b"a secret of the cluster")?;
//! let mut server = Challenges::new(secret.clone(), Secret::generate());
//! let started = Duration::from_secs(1); // since the start of the server, which has a clock
//!
//! // The client asks for a challenge, and signs its request.
//! let challenge = server.challenge(started);
//! let request = Request::of("POST", "/jobs?name=orders", b"the body");
//! let (counter, nonce) = (1, new_nonce());
//! let authorization = request.sign(&secret, &challenge, counter, &nonce);
//!
//! // The server verifies it before it reads the body, and proves the secret in its response.
//! let accepted = server.verify(started, &authorization, "POST", "/jobs?name=orders")?;
//! assert_eq!(accepted.body_sha256, Request::of("", "", b"the body").body_sha256);
//! verify_proof(&secret, &challenge, counter, &nonce, &accepted.proof.to_string())?;
//! # Ok::<(), tidegate_protocol::Error>(())
//! ```

#![forbid(unsafe_code)]

mod challenges;
pub mod handshake;
mod hex;
mod random;
mod request;
mod secret;
mod used_counters;

pub use challenges::{Accepted, Challenges, Refused};
pub use request::{Proof, Request, new_nonce, verify_proof};
pub use secret::Secret;
