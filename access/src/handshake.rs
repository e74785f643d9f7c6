//! Two processes at the ends of a fresh byte stream prove to each other that they have the same secret.
//!
//! ```text
//! connector                                                                        acceptor
//!    ── magic, version; nonce A; length and bytes of the hello ──────────────────────>
//!    <─────────────── magic, version; nonce B; mac over ("accept", A, B, hello) ───────
//!    ── mac over ("connect", A, B, hello) ───────────────────────────────────────────>
//!    <── accepted or refused; length and bytes of reply or reason; mac over ("verdict", A, B, hello, all of that) ──
//! ```
//!
//! The hello identifies the connector, for example by the numbers of its process and attempt. The acceptor's caller decides
//! whether to accept it, after the connector has proved that it has the secret. A hello should also name the process that
//! it is meant for: all processes have the same secret, so an attacker could redirect a connection to another process, or
//! back to the one that opened it.
//!
//! Messages have a fixed order and a bounded size. No buffer for what a peer sends is larger than 4096 bytes.
//!
//! Not here: timeouts. The caller sets them on its socket. If strangers can connect, the caller also bounds the time of the
//! whole handshake: a peer that sends one byte a second never exceeds the timeout of a single read. The data after the
//! handshake is neither encrypted nor signed, unless the stream is one over TLS.

use std::io::{ErrorKind, Read, Write};

use tidegate_protocol::{Error, Result};

use crate::{Secret, random};

/// The most bytes of a hello, a reply, or a reason.
pub const TEXT_BYTES_MAX: usize = 4096;

const MAGIC: &[u8; 8] = b"tidegate";

/// Raised with every change of the messages.
const VERSION: u8 = 1;

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

/// Connects to a process that calls [`accept`], and returns its reply.
///
/// # Errors
/// If the peer does not have the secret, refuses the hello, or is not a Tidegate process of this version.
pub fn connect<S: Read + Write>(stream: &mut S, secret: &Secret, hello: &[u8]) -> Result<Vec<u8>> {
    check_length("hello", hello)?;
    let a = random::bytes();
    send(stream, &[&greeting(), &a, &length_of(hello), hello])?;
    receive_greeting(stream)?;
    let transcript = Transcript { secret, a, b: receive(stream)?, hello };
    transcript.check("accept", &[], &receive(stream)?)?;
    send(stream, &[&transcript.mac("connect", &[])])?;
    let [verdict] = receive(stream)?;
    let text = receive_text(stream)?;
    transcript.check("verdict", &[&[verdict], &text], &receive(stream)?)?;
    match verdict {
        ACCEPTED => Ok(text),
        _ => Err(Error::environment(format!(
            "the peer refused the connection: {}",
            String::from_utf8_lossy(&text)
        ))),
    }
}

/// Accepts a process that calls [`connect`], and returns its hello. `judge` is asked about the hello after the peer has
/// proved that it has the secret, and returns a reply, or the reason why the peer is refused.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use tidegate_access::{Secret, handshake};
///
/// let (mut client, mut server) = UnixStream::pair()?;
/// let secret = Secret::generate();
/// let same = secret.clone();
/// let accepting = std::thread::spawn(move || {
///     handshake::accept(&mut server, &same, |hello| match hello {
///         b"process 1 to 0" => Ok(b"welcome".to_vec()),
///         _ => Err("this is process 0, and expects process 1".to_owned()),
///     })
/// });
/// assert_eq!(handshake::connect(&mut client, &secret, b"process 1 to 0")?, b"welcome");
/// assert_eq!(accepting.join().unwrap()?, b"process 1 to 0");
/// # Ok::<(), tidegate_protocol::Error>(())
/// ```
///
/// # Errors
/// If the peer does not have the secret, is refused by `judge`, or is not a Tidegate process of this version.
pub fn accept<S: Read + Write>(
    stream: &mut S,
    secret: &Secret,
    judge: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>> {
    receive_greeting(stream)?;
    let a = receive(stream)?;
    let hello = receive_text(stream)?;
    let transcript = Transcript { secret, a, b: random::bytes(), hello: &hello };
    send(stream, &[&greeting(), &transcript.b, &transcript.mac("accept", &[])])?;
    transcript.check("connect", &[], &receive(stream)?)?;
    match judge(&hello) {
        Ok(reply) => {
            check_length("reply", &reply)?;
            send_verdict(stream, &transcript, ACCEPTED, &reply)?;
            Ok(hello)
        }
        Err(reason) => {
            let shown = &reason[..reason.floor_char_boundary(TEXT_BYTES_MAX)];
            // The caller needs the reason more than the error of a peer that did not wait for it.
            drop(send_verdict(stream, &transcript, REFUSED, shown.as_bytes()));
            Err(Error::environment(format!("refused a peer: {reason}")))
        }
    }
}

/// The values that every mac of a handshake covers, and the secret.
struct Transcript<'a> {
    secret: &'a Secret,
    a: [u8; 32],
    b: [u8; 32],
    hello: &'a [u8],
}

impl Transcript<'_> {
    fn mac(&self, purpose: &str, more: &[&[u8]]) -> [u8; 32] {
        self.secret.mac(purpose, &self.parts(more))
    }

    fn check(&self, purpose: &str, more: &[&[u8]], mac: &[u8; 32]) -> Result<()> {
        if self.secret.check(purpose, &self.parts(more), mac) {
            return Ok(());
        }
        Err(Error::environment("the peer does not have the secret of this attempt"))
    }

    fn parts<'a>(&'a self, more: &[&'a [u8]]) -> Vec<&'a [u8]> {
        [&[&self.a[..], &self.b, self.hello], more].concat()
    }
}

fn greeting() -> [u8; 9] {
    let mut greeting = [VERSION; 9];
    greeting[..8].copy_from_slice(MAGIC);
    greeting
}

fn receive_greeting(stream: &mut impl Read) -> Result<()> {
    let magic: [u8; 8] = receive(stream)?;
    if magic != *MAGIC {
        let sent = magic.escape_ascii();
        return Err(Error::environment(format!("the peer is no Tidegate process: it sent \"{sent}\"")));
    }
    let [version] = receive(stream)?;
    if version != VERSION {
        return Err(Error::environment(format!(
            "the peer speaks version {version} of the handshake, this process version {VERSION}: run the same release of \
             Tidegate on both sides"
        )));
    }
    Ok(())
}

fn send_verdict(
    stream: &mut impl Write,
    transcript: &Transcript<'_>,
    verdict: u8,
    text: &[u8],
) -> Result<()> {
    let mac = transcript.mac("verdict", &[&[verdict], text]);
    send(stream, &[&[verdict], &length_of(text), text, &mac])
}

fn check_length(what: &str, text: &[u8]) -> Result<()> {
    if text.len() > TEXT_BYTES_MAX {
        let length = text.len();
        return Err(Error::internal(format!(
            "the {what} of a handshake has {length} bytes, more than {TEXT_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// Two bytes, little-endian. The caller has checked that the length is at most [`TEXT_BYTES_MAX`].
fn length_of(text: &[u8]) -> [u8; 2] {
    (text.len() as u16).to_le_bytes()
}

fn receive_text(stream: &mut impl Read) -> Result<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes(receive(stream)?));
    if length > TEXT_BYTES_MAX {
        return Err(Error::environment(format!(
            "the peer announced {length} bytes in the handshake, more than {TEXT_BYTES_MAX}"
        )));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).map_err(failed)?;
    Ok(text)
}

fn receive<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Sends a message by one write, so that it is one packet on a socket without delay.
fn send(stream: &mut impl Write, parts: &[&[u8]]) -> Result<()> {
    stream.write_all(&parts.concat()).and_then(|()| stream.flush()).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Error::environment("the peer did not answer in time during the handshake")
        }
        ErrorKind::UnexpectedEof
        | ErrorKind::BrokenPipe
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted => Error::environment(
            "the peer closed the connection during the handshake (so does a peer that has another secret)",
        ),
        _ => Error::from(error).context("the handshake failed"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HELLO: &[u8] = b"process 1";

    /// One end of a connection that changes one of the bytes that it receives: the one at `flip.0`.
    struct End {
        stream: UnixStream,
        received: usize,
        flip: (usize, u8),
    }

    impl Read for End {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.stream.read(&mut buffer[..1])?;
            buffer[0] ^= if self.received == self.flip.0 { self.flip.1 } else { 0 };
            self.received += count;
            Ok(count)
        }
    }

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.stream.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What connector and acceptor return, how many bytes each of them received, and whether the hello was judged.
    type Outcome = ([Result<Vec<u8>>; 2], [usize; 2], bool);

    const NO_FLIP: (usize, u8) = (0, 0);

    fn run(secrets: [&Secret; 2], verdict: Result<Vec<u8>, String>, flips: [(usize, u8); 2]) -> Outcome {
        let (one, other) = UnixStream::pair().unwrap();
        // A changed length makes the acceptor wait for bytes that never come.
        let timeout = Duration::from_millis(if flips[1] == NO_FLIP { 60_000 } else { 200 });
        other.set_read_timeout(Some(timeout)).unwrap();
        let mut connector = End { stream: one, received: 0, flip: flips[0] };
        let mut acceptor = End { stream: other, received: 0, flip: flips[1] };
        let mut is_judged = false;
        let judge = |_: &[u8]| {
            is_judged = true;
            verdict
        };
        let (results, received) = std::thread::scope(|scope| {
            let accepting =
                scope.spawn(move || (accept(&mut acceptor, secrets[1], judge), acceptor.received));
            let connected = connect(&mut connector, secrets[0], HELLO);
            let received = connector.received;
            drop(connector);
            let (accepted, received_by_acceptor) = accepting.join().unwrap();
            ([connected, accepted], [received, received_by_acceptor])
        });
        (results, received, is_judged)
    }

    fn text_of(results: [Result<Vec<u8>>; 2]) -> [String; 2] {
        results.map(|result| result.unwrap_err().to_string())
    }

    #[test]
    fn both_sides_with_the_secret_agree() {
        let secret = Secret::generate();
        for reply in [&b""[..], b"welcome", &[7; TEXT_BYTES_MAX]] {
            let ([connected, accepted], ..) = run([&secret, &secret], Ok(reply.to_vec()), [NO_FLIP; 2]);
            assert_eq!((&*connected.unwrap(), &*accepted.unwrap()), (reply, HELLO));
        }
    }

    #[test]
    fn a_peer_without_the_secret_is_refused_before_its_hello_is_judged() {
        let secrets = [&Secret::generate(), &Secret::generate()];
        let (results, _, is_judged) = run(secrets, Ok(Vec::new()), [NO_FLIP; 2]);
        let [connected, accepted] = text_of(results);
        assert_eq!(connected, "the peer does not have the secret of this attempt");
        assert!(accepted.starts_with("the peer closed the connection during the handshake"), "{accepted}");
        assert!(!is_judged);
    }

    #[test]
    fn both_sides_say_why_a_hello_is_refused() {
        let secret = Secret::generate();
        for reason in ["attempt 3 is over".to_owned(), "ä".repeat(3000)] {
            let (results, ..) = run([&secret, &secret], Err(reason.clone()), [NO_FLIP; 2]);
            let shown: String = reason.chars().take(TEXT_BYTES_MAX / 2).collect();
            let expected =
                [format!("the peer refused the connection: {shown}"), format!("refused a peer: {reason}")];
            assert_eq!(text_of(results), expected);
        }
    }

    #[test]
    fn every_changed_byte_of_every_message_is_noticed() {
        let secret = Secret::generate();
        for verdict in [Ok(b"welcome".to_vec()), Err("not now".to_owned())] {
            let run = |flips| run([&secret, &secret], verdict.clone(), flips);
            let (_, received, _) = run([NO_FLIP; 2]);
            assert_eq!(received, [9 + 32 + 32 + 1 + 2 + 7 + 32, 9 + 32 + 2 + HELLO.len() + 32]);
            for bits in [1, 0x80] {
                for at in 0..received[0] {
                    let ([connected, accepted], _, is_judged) = run([(at, bits), NO_FLIP]);
                    let error = connected.unwrap_err().to_string();
                    assert!(!error.contains("refused the connection"), "{at}: {error}");
                    let is_verdict = at >= 9 + 32 + 32;
                    assert_eq!((is_judged, is_verdict || accepted.is_err()), (is_verdict, true), "{at}");
                }
                for at in 0..received[1] {
                    let ([connected, accepted], _, is_judged) = run([NO_FLIP, (at, bits)]);
                    assert!(connected.is_err() && accepted.is_err() && !is_judged, "{at}");
                }
            }
        }
    }

    /// What a connector and an acceptor say of a peer that sends these bytes and then nothing, or closes the connection.
    fn errors(bytes: &[u8], closes: bool) -> [String; 2] {
        let secret = Secret::generate();
        let [(mut one, mut peer), (mut other, mut another)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        for (stream, peer) in [(&one, &mut peer), (&other, &mut another)] {
            stream.set_read_timeout(Some(Duration::from_millis(if closes { 60_000 } else { 1 }))).unwrap();
            peer.write_all(bytes).unwrap();
            if closes {
                peer.shutdown(Shutdown::Write).unwrap();
            }
        }
        let judge = |_: &[u8]| panic!("a stranger's hello must not be judged");
        text_of([connect(&mut one, &secret, HELLO), accept(&mut other, &secret, judge)])
    }

    #[test]
    fn an_error_says_what_is_wrong_with_the_peer() {
        let hello = |length: [u8; 2]| [&greeting()[..], &[0; 32], &length, &[0; 64]].concat();
        let no_secret = "the peer does not have the secret of this attempt";
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1"[..], ["the peer is no Tidegate process: it sent \"GET / HT\""; 2]),
            (b"tidegate\x02", ["the peer speaks version 2 of the handshake, this process version 1: run"; 2]),
            (b"tidegate\x01", ["the peer closed the connection during the handshake"; 2]),
            (&hello([1, 16]), [no_secret, "the peer announced 4097 bytes"]),
            (&hello([0, 0]), [no_secret; 2]),
        ] {
            let [connected, accepted] = errors(bytes, true);
            assert!(
                connected.starts_with(expected[0]) && accepted.starts_with(expected[1]),
                "{connected}; {accepted}"
            );
        }
        assert_eq!(errors(b"tide", false), ["the peer did not answer in time during the handshake"; 2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_refused(greets in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let greeting = if greets { greeting().to_vec() } else { Vec::new() };
            errors(&[greeting, bytes].concat(), true);
        }
    }
}
