//! Requests whose body does not come, or is another one than was signed.

use tidegate_access::{Request, Secret};

use super::running::Running;

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
