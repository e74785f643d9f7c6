//! Signed HTTP requests: a request proves that its client has the secret, and the response that the server has it.
//!
//! ```text
//! client                                                                        server
//!    ── GET /v1/challenge ────────────────────────────────────────────────────────>
//!    <────────────────────────────────────────────────────────────── a challenge ──
//!    ── Authorization: Tidegate challenge=..,counter=..,nonce=..,body=..,mac=.. ─>
//!    <───────────────────────────────────────────── response, Tidegate-Proof: .. ──
//! ```
//!
//! The challenge is from the server, so no clock of the client is needed. A client uses a challenge for many requests, each
//! with another counter. The request's mac is over challenge, counter, nonce, method, target and the hash of the body. That
//! hash is in the header, too, so that the server can check the mac before it reads a byte of the body. The client chooses
//! the nonce, so that the recorded proof of an earlier response is not valid for a new one.
//!
//! Not here: which challenges and counters a server accepts ([`Challenges`](crate::Challenges)). The proof does not
//! cover the response: it shows that the request has reached a server that has the secret.

use std::fmt;

use sha2::{Digest, Sha256};
use tidegate_protocol::{Error, Result};

use crate::{Secret, hex, random};

/// The most bytes of an `Authorization` header that is parsed; that of a client has about 350.
const HEADER_BYTES_MAX: usize = 512;

/// The most bytes of a challenge or of a client's nonce.
const TOKEN_BYTES_MAX: usize = 128;

/// The parts of an HTTP request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, such as `POST`.
    pub method: &'a str,
    /// Path and query as in the request line, such as `/jobs?name=orders`.
    pub target: &'a str,
    /// The SHA-256 of the body; without a body, that of zero bytes.
    pub body_sha256: [u8; 32],
}

impl<'a> Request<'a> {
    /// A request with a body, which may be empty.
    pub fn of(method: &'a str, target: &'a str, body: &[u8]) -> Self {
        Self { method, target, body_sha256: Sha256::digest(body).into() }
    }

    /// The value of the `Authorization` header. Every request that is signed with a challenge has a counter of its own, in
    /// ascending order; up to 64 concurrent requests may arrive in any order.
    ///
    /// The challenge is from a server that has not proved anything yet. Characters other than letters, digits, `.`, `-` and
    /// `_` are removed from challenge and nonce, so that a server cannot insert a header into the client's request.
    pub fn sign(&self, secret: &Secret, challenge: &str, counter: u64, client_nonce: &str) -> String {
        let (challenge, counter, nonce) = (token(challenge), counter.to_string(), token(client_nonce));
        let exchange = Exchange { challenge: &challenge, counter: &counter, nonce: &nonce };
        let body = hex::encode(&self.body_sha256);
        let mac = hex::encode(&secret.mac("request", &exchange.request_parts(self)));
        format!("Tidegate challenge={challenge},counter={counter},nonce={nonce},body={body},mac={mac}")
    }
}

/// A nonce for [`Request::sign`]: 16 random bytes, as hexadecimal digits. Every request has one of its own.
pub fn new_nonce() -> String {
    hex::encode(&random::bytes::<16>())
}

/// The server's proof that it has the secret. It is sent as the value of the `Tidegate-Proof` header, by its `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    mac: [u8; 32],
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.mac))
    }
}

/// Checks the `Tidegate-Proof` header of the response to the request that was signed with this challenge, counter and nonce.
///
/// # Errors
/// If the server does not have the secret, or did not receive this request.
pub fn verify_proof(
    secret: &Secret,
    challenge: &str,
    counter: u64,
    client_nonce: &str,
    header: &str,
) -> Result<()> {
    let exchange = Exchange { challenge, counter: &counter.to_string(), nonce: client_nonce };
    let mac = hex::decode::<32>(header);
    let is_right = mac.is_some_and(|mac| secret.check("response", &exchange.response_parts(), &mac));
    if !is_right {
        return Err(Error::environment(
            "the server has not proved that it has the secret of this cluster: check the address, and that client and \
             server have the same secret",
        ));
    }
    Ok(())
}

/// The values that distinguish a request from all others that are signed with the same secret.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exchange<'a> {
    challenge: &'a str,
    counter: &'a str,
    nonce: &'a str,
}

impl Exchange<'_> {
    fn request_parts<'a>(&'a self, request: &'a Request<'_>) -> [&'a [u8]; 6] {
        let Request { method, target, body_sha256 } = request;
        let [nonce, challenge, counter] = self.response_parts();
        [challenge, counter, nonce, method.as_bytes(), target.as_bytes(), body_sha256]
    }

    fn response_parts(&self) -> [&[u8]; 3] {
        [self.nonce.as_bytes(), self.challenge.as_bytes(), self.counter.as_bytes()]
    }
}

/// The content of an `Authorization` header, of which nothing is verified yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Authorization<'a> {
    pub(crate) challenge: &'a str,
    pub(crate) counter: u64,
    /// What the client says of the body.
    pub(crate) body_sha256: [u8; 32],
    exchange: Exchange<'a>,
    mac: [u8; 32],
}

impl<'a> Authorization<'a> {
    /// None unless the header is as [`Request::sign`] writes it, byte for byte.
    pub(crate) fn parse(header: &'a str) -> Option<Self> {
        let header = Some(header).filter(|header| header.len() <= HEADER_BYTES_MAX)?;
        let mut fields = header.strip_prefix("Tidegate ")?.splitn(5, ',');
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
        let challenge = field("challenge").filter(|text| is_token(text))?;
        let counter = field("counter")?;
        let nonce = field("nonce").filter(|text| is_token(text))?;
        let body_sha256 = hex::decode(field("body")?)?;
        let mac = hex::decode(field("mac")?)?;
        let number = counter.parse::<u64>().ok().filter(|number| number.to_string() == counter)?;
        let exchange = Exchange { challenge, counter, nonce };
        Some(Self { challenge, counter: number, body_sha256, exchange, mac })
    }

    /// Whether a request with this method and target, and the body that the header announces, was signed with the secret.
    pub(crate) fn is_signed_with(&self, secret: &Secret, method: &str, target: &str) -> bool {
        let request = Request { method, target, body_sha256: self.body_sha256 };
        secret.check("request", &self.exchange.request_parts(&request), &self.mac)
    }

    pub(crate) fn proof(&self, secret: &Secret) -> Proof {
        Proof { mac: secret.mac("response", &self.exchange.response_parts()) }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && token(text) == text
}

/// The text without the characters that neither a challenge nor a nonce contains.
fn token(text: &str) -> String {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().filter(is_allowed).take(TOKEN_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> Secret {
        Secret::of(b"0123456789abcdef").unwrap()
    }

    #[test]
    fn a_proof_is_of_one_request_and_one_secret() {
        let header = Request::of("GET", "/jobs", b"").sign(&secret(), "c", 7, "n");
        let proof = Authorization::parse(&header).unwrap().proof(&secret()).to_string();
        verify_proof(&secret(), "c", 7, "n", &proof).unwrap();
        let its_own_mac = header.rsplit('=').next().unwrap();
        for (challenge, counter, nonce, proof) in [
            ("d", 7, "n", &*proof),
            ("c", 8, "n", &proof),
            ("c", 7, "m", &proof),
            ("c", 7, "n", its_own_mac),
            ("c", 7, "n", ""),
        ] {
            let error = verify_proof(&secret(), challenge, counter, nonce, proof).unwrap_err().to_string();
            assert!(error.starts_with("the server has not proved that it has the secret"), "{error}");
        }
        assert!(verify_proof(&Secret::generate(), "c", 7, "n", &proof).is_err());
    }

    #[test]
    fn a_challenge_adds_nothing_else_to_the_header() {
        let request = Request::of("GET", "/", b"");
        let header = request.sign(&secret(), "a\r\nCookie: b,mac=", 1, "");
        assert!(header.starts_with("Tidegate challenge=aCookiebmac,counter=1,nonce=,body="), "{header}");
        assert!(
            request.sign(&secret(), &"x".repeat(100_000), u64::MAX, &new_nonce()).len() < HEADER_BYTES_MAX
        );
        assert_eq!(Authorization::parse(&header), None, "a nonce is needed");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_signed_is_parsed_and_any_other_text_is_not(
            challenge in "[0-9a-f.]{1,20}", counter in any::<u64>(), text in ".{0,40}", at in any::<prop::sample::Index>()
        ) {
            let request = Request::of("GET", &text, text.as_bytes());
            let header = request.sign(&secret(), &challenge, counter, "nonce");
            let parsed = Authorization::parse(&header).unwrap();
            prop_assert_eq!((parsed.challenge, parsed.counter), (&*challenge, counter));
            prop_assert_eq!(parsed.body_sha256, request.body_sha256);
            prop_assert!(parsed.is_signed_with(&secret(), "GET", &text));
            prop_assert_eq!(Authorization::parse(&text), None);
            // A header with text inserted is malformed, or its signature is wrong.
            let (before, after) = header.split_at(at.index(header.len()));
            let changed = format!("{before}{text}{after}");
            prop_assert!(
                changed == header || !Authorization::parse(&changed).is_some_and(|a| a.is_signed_with(&secret(), "GET", &text))
            );
        }
    }
}
