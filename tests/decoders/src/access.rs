//! What is read before a peer has proved that it has the secret: handshakes, and the headers of signed requests.

use std::io::{self, Read, Write};
use std::time::Duration;

use tidegate_access::handshake::{accept, connect};
use tidegate_access::{Challenges, Request, Secret, verify_proof};

/// The time at which requests arrive.
const NOW: Duration = Duration::from_secs(1_000);

/// A peer that has said everything already, and hears nothing.
struct Tape<'a>(&'a [u8]);

impl Read for Tape<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tape<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both sides of the handshake between job processes: a peer without the secret is refused by each.
pub fn handshake(bytes: &[u8]) {
    let secret = Secret::generate();
    let accepted = accept(&mut Tape(bytes), &secret, |_| Ok(Vec::new()));
    assert!(accepted.is_err(), "a connector without the secret was accepted");
    assert!(
        connect(&mut Tape(bytes), &secret, b"hello").is_err(),
        "an acceptor without the secret was believed"
    );
}

/// The bytes of both sides, up to the macs, which are wrong.
pub fn handshakes() -> Vec<(&'static str, Vec<u8>)> {
    let greeting = b"tidegate\x01";
    let nonce = [7; 32];
    let (hello, mac) = (b"process 1", [9; 32]);
    let connector = [&greeting[..], &nonce, &[9, 0], hello, &mac].concat();
    let acceptor = [&greeting[..], &nonce, &mac, &[0, 2, 0], b"ok", &mac].concat();
    vec![("connector", connector), ("acceptor", acceptor)]
}

/// The headers of a signed request and of its response, as they come from who does not have the secret.
pub fn signature(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (secret, request) = (Secret::generate(), Request::of("POST", "/v1/jobs?name=a", b"body"));
    let mut server = Challenges::new(secret.clone(), Secret::generate());
    let own = format!("Tidegate challenge={},{text}", server.challenge(NOW));
    for header in [&*text, &own] {
        assert!(
            server.verify(NOW, header, "POST", "/v1/jobs?name=a").is_err(),
            "a forged header was accepted: {header}"
        );
    }
    assert!(verify_proof(&secret, &text, 1, "nonce", &text).is_err(), "a forged proof was accepted: {text}");
    // A challenge comes from a server that has not proved anything.
    let signed = request.sign(&secret, &text, 1, &text);
    assert!(signed.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "not a header: {signed:?}");
}

/// A header, and the part of one that follows the challenge.
pub fn signatures() -> Vec<(&'static str, Vec<u8>)> {
    let secret = Secret::of(b"the secret of the seeds").expect("it is long enough");
    let request = Request::of("POST", "/v1/jobs?name=a", b"body");
    let challenge = "00000000000f4240.000102030405060708090a0b0c0d0e0f.00";
    let header = request.sign(&secret, challenge, 1, "n");
    let rest = header.split_once(',').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    vec![
        ("header", header.into_bytes()),
        ("rest", rest.into_bytes()),
        ("proof", "0f".repeat(32).into_bytes()),
    ]
}
