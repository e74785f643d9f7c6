//! Requests of a cluster's jobmanager, signed with the cluster secret.
//!
//! [`Client`] sends HTTP requests and blocks until they are answered. Before its first request it asks for a challenge
//! (`GET /v1/challenge`), with which it signs that request and the following ones, each with another counter. The answer
//! has a proof that the jobmanager has the secret, too; an answer without it is not used. If a challenge has expired, or the
//! jobmanager was started again, the client asks for a new one and repeats the request, once: it was not carried out.
//!
//! A long body is sent when the jobmanager says that it wants it (`Expect: 100-continue`). If it answers before it has all of
//! the body, that answer is used: it says what is wrong.
//!
//! A cluster has one or several jobmanagers, of which one leads. The client tries their addresses in turn and continues
//! with the one that has answered. A request that may have been carried out is not sent to a second address, except for `GET`.
//!
//! - [`Client`]: `get`, `post`, `patch`, `delete` with JSON, `upload` with bytes.
//! - [`Signed`]: a signature for a request that the caller sends by other means, such as the upgrade to a WebSocket.
//!
//! With a [`Connector`] all of it goes over TLS; without one the traffic is plain HTTP, see the crate `tidegate-access` for
//! what that protects and what it does not.
//!
//! Not here: the requests that exist and their types (crate `tidegate-rest`), WebSockets (the taskmanager).

#![forbid(unsafe_code)]

mod client;
mod early_answer;
mod failure;
mod signed;
mod tls;

pub use client::Client;
pub use signed::{PROOF_HEADER, Signed};
pub use tidegate_transport::Connector;
