//! Requests whose body does not come, or is another one than was signed.

use std::io::Write;
use std::net::TcpStream;

use tidegate_access::{Request, Secret};

use super::running::{Running, answer_on};

const RUN: &str = "/v1/executables/x/run";

#[test]
fn a_stranger_is_refused_without_a_byte_of_the_body() {
    let server = Running::start();
    let upload = format!("/v1/executables?sha256={}", "00".repeat(32));
    for target in [RUN, &upload] {
        let request = Request::of("POST", target, b"{}");
        let of_another = Request { target: "/v1/jobs", ..request };
        let digits = "0".repeat(64);
        for signature in [
            None,
            Some("Basic dTpw".to_owned()),
            Some(format!("Tidegate challenge=a,counter=1,nonce=n,body={digits},mac={digits}")),
            Some(server.sign_with(&Secret::generate(), &request)),
            Some(server.sign(&of_another)),
        ] {
            let answered = server.head("POST", target, signature.as_deref(), 1_000_000);
            assert_eq!((answered.status, answered.has_proof), (401, false), "{target}: {signature:?}");
        }
    }
}

#[test]
fn a_body_that_was_not_signed_is_refused() {
    let server = Running::start();
    let signature = server.sign(&Request::of("POST", RUN, b"{}"));
    let answered = server.send("POST", RUN, Some(signature), Some((b"{ }", "application/json")));
    assert_eq!(answered.status, 401, "{}", answered.body);
    let upload = format!("/v1/executables?sha256={}", "00".repeat(32));
    let answered = server.untyped("POST", &upload, b"a program");
    assert_eq!(answered.status, 400, "{}", answered.body);
    assert!(answered.body["error"].as_str().unwrap().contains("Authorization header"), "{}", answered.body);
}

#[test]
fn who_goes_on_sending_is_answered_nevertheless() {
    const BYTES: usize = 8 << 20;
    let server = Running::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // More than the buffers of a connection hold, so that it fails if the server does not take it.
    stream.write_all(&vec![0; BYTES]).unwrap();
    assert_eq!(answer_on(stream).status, 401);
}

#[test]
fn an_executable_that_is_too_long_is_refused_without_a_byte_of_it() {
    let server = Running::start();
    let request = Request::of("POST", "/v1/executables", b"a program");
    let digest: String = request.body_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let target = format!("/v1/executables?sha256={digest}");
    let signature = server.sign(&Request { target: &target, ..request });
    let answered = server.head("POST", &target, Some(&signature), 3 << 30);
    assert_eq!((answered.status, answered.has_proof), (413, true), "{}", answered.body);
    let error = answered.body["error"].as_str().unwrap();
    assert!(error.starts_with("the upload is larger than 2048 MB"), "{error}");
}
