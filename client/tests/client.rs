//! The client against a small server on a socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tidegate_access::{Accepted, Challenges, Request, Secret};
use tidegate_client::Client;
use tidegate_protocol::{ErrorKind, Result};

fn secret() -> Secret {
    Secret::of(b"the secret of the cluster").unwrap()
}

/// What a server answers to a signed request: status and body. No body: the connection is closed without an answer.
type Respond = Box<dyn FnMut(&str, &str, &[u8]) -> (u16, Option<String>) + Send>;

struct Server {
    address: String,
    /// The request lines that have arrived.
    requests: Receiver<String>,
}

/// Starts a jobmanager. Every challenge is refused after `uses` requests.
fn serve(secret: Secret, uses: usize, respond: Respond) -> Server {
    serve_from(secret, 0, uses, respond)
}

/// Starts one whose first challenge has been used so many times already.
fn serve_from(secret: Secret, mut used: usize, uses: usize, mut respond: Respond) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        let mut challenges = Challenges::new(secret.clone(), Secret::generate());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some((method, target, authorization, body)) = read_request(&mut stream) else { continue };
            let _ = sender.send(format!("{method} {target}"));
            if target == "/v1/challenge" {
                let challenge = challenges.challenge(Duration::ZERO);
                answer(&mut stream, 200, "", &format!("{{\"challenge\":\"{challenge}\"}}"));
                continue;
            }
            used += 1;
            if used > uses {
                used = 0;
                challenges = Challenges::new(secret.clone(), Secret::generate());
            }
            match challenges.verify(Duration::ZERO, &authorization, &method, &target) {
                Ok(Accepted { proof, body_sha256 }) => {
                    assert_eq!(body_sha256, Request::of(&method, &target, &body).body_sha256);
                    if let (status, Some(text)) = respond(&method, &target, &body) {
                        answer(&mut stream, status, &format!("Tidegate-Proof: {proof}\r\n"), &text);
                    }
                }
                Err(refused) => answer(&mut stream, 401, "", &format!("{{\"error\":\"{refused}\"}}")),
            }
        }
    });
    Server { address, requests }
}

fn read_request(stream: &mut TcpStream) -> Option<(String, String, String, Vec<u8>)> {
    let Head { method, target, authorization, length, is_asking, mut body } = read_head(stream)?;
    if is_asking {
        stream.write_all(CONTINUE).unwrap();
    }
    stream.take((length - body.len()) as u64).read_to_end(&mut body).unwrap();
    Some((method, target, authorization, body))
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request whose body has not been read.
struct Head {
    method: String,
    target: String,
    authorization: String,
    /// That of the body.
    length: usize,
    /// Whether the client waits until it is told to send the body.
    is_asking: bool,
    /// What has come of the body.
    body: Vec<u8>,
}

fn read_head(stream: &mut TcpStream) -> Option<Head> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    let mut words = head.split(' ');
    Some(Head {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        authorization: header("authorization"),
        length: header("content-length").parse().unwrap_or(0),
        is_asking: header("expect") == "100-continue",
        body: bytes[end..].to_vec(),
    })
}

fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let text = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}

fn echo() -> Respond {
    Box::new(|method, target, body| {
        let body = String::from_utf8_lossy(body);
        (200, Some(serde_json::to_string(&format!("{method} {target} {body}")).unwrap()))
    })
}

fn says(status: u16, body: &'static str) -> Respond {
    Box::new(move |_, _, _| (status, Some(body.to_owned())))
}

/// An address where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn client(addresses: &[&str]) -> Client {
    Client::new(addresses.iter().map(|a| (*a).to_owned()).collect(), secret())
}

fn error_of(result: Result<String>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn requests_of_every_kind_are_signed_with_one_challenge() {
    let server = serve(secret(), usize::MAX, echo());
    let client = client(&[&server.address]);
    let get: String = client.get("/v1/jobs?name=a%20b").unwrap();
    assert_eq!(get, "GET /v1/jobs?name=a%20b ");
    assert_eq!(client.post::<_, String>("/v1/jobs", &[1, 2]).unwrap(), "POST /v1/jobs [1,2]");
    assert_eq!(client.put::<_, String>("/v1/jobs/a", "x").unwrap(), "PUT /v1/jobs/a \"x\"");
    assert_eq!(client.patch::<_, String>("/v1/jobs/a", "x").unwrap(), "PATCH /v1/jobs/a \"x\"");
    assert_eq!(client.delete::<String>("/v1/jobs/a").unwrap(), "DELETE /v1/jobs/a ");
    let big = "x".repeat(3_000_000);
    let uploaded: String = client.upload("/v1/executables", big.as_bytes()).unwrap();
    assert_eq!(uploaded.len(), "POST /v1/executables ".len() + big.len());
    let requests: Vec<String> = server.requests.try_iter().collect();
    assert_eq!(requests.iter().filter(|request| request.ends_with("challenge")).count(), 1, "{requests:?}");
}

#[test]
fn an_expired_challenge_is_replaced() {
    let server = serve(secret(), 2, echo());
    let client = client(&[&server.address]);
    for _ in 0..7 {
        assert!(client.get::<String>("/v1/jobs").is_ok());
    }
}

#[test]
fn a_jobmanager_that_was_started_again_after_the_challenge_is_asked_again_once() {
    // It does not know the first challenge, with which nothing was signed before.
    let restarted = serve_from(secret(), 1, 1, echo());
    assert!(client(&[&restarted.address]).post::<_, String>("/v1/jobs", "x").is_ok());
    let requests: Vec<String> = restarted.requests.try_iter().collect();
    assert_eq!(requests, ["GET /v1/challenge", "POST /v1/jobs", "GET /v1/challenge", "POST /v1/jobs"]);
    // One that knows none is not asked for ever.
    let server = serve(secret(), 0, echo());
    let (_, text) = error_of(client(&[&server.address]).post("/v1/jobs", "x"));
    assert!(text.contains("from before a restart"), "{text}");
    assert_eq!(server.requests.try_iter().count(), 4);
}

#[test]
fn the_address_that_has_answered_is_asked_first_from_then_on() {
    let follower = serve(secret(), usize::MAX, says(503, r#"{"error":"no leader here","not_leading":true}"#));
    let leader = serve(secret(), usize::MAX, echo());
    let client = client(&[&nobody(), &follower.address, &leader.address]);
    for _ in 0..3 {
        assert!(client.post::<_, String>("/v1/jobs", "x").is_ok());
    }
    assert_eq!(follower.requests.try_iter().count(), 2);
    assert_eq!(leader.requests.try_iter().count(), 4);
}

#[test]
fn errors_say_who_can_fix_them() {
    for (status, kind) in [
        (400, ErrorKind::Job),
        (404, ErrorKind::Job),
        (409, ErrorKind::Job),
        (413, ErrorKind::Job),
        (503, ErrorKind::Environment),
        (500, ErrorKind::Environment),
    ] {
        let server = serve(secret(), usize::MAX, says(status, r#"{"error":"no such job"}"#));
        assert_eq!(
            error_of(client(&[&server.address]).get("/v1/jobs/a")),
            (kind, "no such job".to_owned()),
            "{status}"
        );
    }
    let server = serve(secret(), usize::MAX, says(200, "{"));
    let (_, text) = error_of(client(&[&server.address]).get("/v1/jobs"));
    assert!(text.starts_with("the answer of the jobmanager cannot be parsed"), "{text}");

    let address = nobody();
    let (kind, text) = error_of(client(&[&address]).get("/v1/jobs"));
    assert_eq!(kind, ErrorKind::Environment);
    assert!(text.starts_with(&format!("no jobmanager answers at {address}: Connection refused")), "{text}");
    assert!(text.ends_with(
        ". Does one run there ('tidegate jobmanager')? --jobmanager or TIDEGATE_JOBMANAGER name another one"
    ));
}

#[test]
fn a_server_with_another_secret_is_not_believed() {
    let server = serve(Secret::of(b"another secret, not ours").unwrap(), usize::MAX, echo());
    let (kind, text) = error_of(client(&[&server.address]).get("/v1/jobs"));
    assert_eq!(kind, ErrorKind::Environment);
    assert!(text.contains("refuses the cluster secret"), "{text}");

    // One that does not verify, and makes up a proof.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_request(&mut stream).unwrap();
            answer(&mut stream, 200, "Tidegate-Proof: 00\r\n", r#"{"challenge":"c\r\nd"}"#);
        }
    });
    let (kind, text) = error_of(client(&[&address]).get("/v1/jobs"));
    assert_eq!(kind, ErrorKind::Environment);
    assert_eq!(text, format!("who answers at {address} does not have the cluster secret"));
    let signed = client(&[&address]).signed_upgrade(&address, "/v1/taskmanagers/link").unwrap();
    assert!(signed.verify(Some("00")).is_err() && signed.verify(None).is_err());
}

#[test]
fn a_request_without_an_answer_is_repeated_only_if_it_changes_nothing() {
    let silent = || serve(secret(), usize::MAX, Box::new(|_, _, _| (0, None)));
    let (first, second) = (silent(), serve(secret(), usize::MAX, echo()));
    let client = client(&[&first.address, &second.address]);
    let (_, text) = error_of(client.post("/v1/jobs", "x"));
    assert!(text.ends_with("the request may have been carried out"), "{text}");
    assert_eq!(second.requests.try_iter().count(), 0);
    assert!(client.get::<String>("/v1/jobs").is_ok());

    // A server that accepts connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Client::new(vec![address], secret()).with_timeout(Duration::from_millis(100));
    let (_, text) = error_of(client.get("/v1/jobs"));
    assert!(text.contains("no answer within 0.1 s"), "{text}");
}

/// Longer than what fits into the buffers of a connection.
const LONG: usize = 64 << 20;

/// Starts a jobmanager that answers before it has read the body of a request, and closes the connection.
fn impatient(mut respond: impl FnMut(&mut TcpStream, &Head, &str) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut challenges = Challenges::new(secret(), Secret::generate());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_head(&mut stream).unwrap();
            if head.target == "/v1/challenge" {
                let challenge = challenges.challenge(Duration::ZERO);
                answer(&mut stream, 200, "", &format!("{{\"challenge\":\"{challenge}\"}}"));
                continue;
            }
            let verified = challenges.verify(Duration::ZERO, &head.authorization, &head.method, &head.target);
            let proof = verified.map(|accepted| format!("Tidegate-Proof: {}\r\n", accepted.proof));
            respond(&mut stream, &head, &proof.unwrap_or_default());
        }
    });
    address
}

#[test]
fn a_long_body_that_is_refused_is_not_sent_and_the_reason_is_shown() {
    for (status, kind, shown) in [
        (401, ErrorKind::Environment, "refuses the cluster secret: the secret is wrong"),
        (413, ErrorKind::Job, "the secret is wrong"),
    ] {
        let (sender, received) = channel();
        let address = impatient(move |stream, head, proof| {
            answer(stream, status, proof, r#"{"error":"the secret is wrong"}"#);
            let more = stream.read_to_end(&mut Vec::new()).unwrap();
            sender.send((head.is_asking, head.body.len() + more)).unwrap();
        });
        let (said, text) = error_of(client(&[&address]).upload("/v1/executables", &vec![0; LONG]));
        assert!(said == kind && text.ends_with(shown), "{text}");
        assert_eq!(received.recv().unwrap(), (true, 0));
    }
}

#[test]
fn an_answer_in_the_middle_of_a_body_is_heard() {
    let address = impatient(|stream, _, proof| {
        stream.write_all(CONTINUE).unwrap();
        stream.read_exact(&mut vec![0; 1 << 20]).unwrap();
        // What has come and was not read makes the system break the connection.
        answer(stream, 503, proof, r#"{"error":"the disk is full"}"#);
    });
    let (_, text) = error_of(client(&[&address]).upload("/v1/executables", &vec![0; LONG]));
    assert_eq!(text, "the disk is full");
}
