//! What an answer or its absence means for the user.

use tidegate_protocol::Error;
use tidegate_transport::explain_io;

use crate::tls::NoTls;

/// How much is shown of what somebody says who has not proved anything.
const SAID_CHARS_MAX: usize = 300;

/// Why there is no answer from an address.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request was not carried out there; another jobmanager may do it.
    NotDone(String),
    /// The request was sent, but no complete answer has come.
    Unknown(String),
    /// No other address will help.
    Final(Error),
}

/// Why an answer that was not proved cannot be used, if that is something that anybody may say.
pub(crate) fn of_unproved(address: &str, status: u16, body: &[u8]) -> Option<Failure> {
    let parsed = serde_json::from_slice::<tidegate_rest::Failure>(body).ok();
    match status {
        401 => {
            let why = parsed.map(|body| format!(": {}", body.error)).unwrap_or_default();
            let text = format!("the jobmanager at {address} refuses the cluster secret{why}");
            Some(Failure::Final(Error::environment(text)))
        }
        503 if parsed.is_some_and(|body| body.not_leading) => {
            Some(Failure::NotDone("it does not lead the cluster, and no other jobmanager does".to_owned()))
        }
        _ => None,
    }
}

/// Why there was no challenge where there should be a jobmanager.
pub(crate) fn of_no_challenge(status: u16, body: &[u8]) -> Failure {
    // Nothing is proved, so what is said has to be short and plain.
    let said = serde_json::from_slice::<tidegate_rest::Failure>(body).ok();
    let said = said.filter(|body| status == 400 && !body.error.contains(char::is_control));
    Failure::NotDone(match said {
        Some(body) => body.error.chars().take(SAID_CHARS_MAX).collect(),
        None => format!("what answers there (HTTP status {status}) is no jobmanager"),
    })
}

/// The error that a jobmanager has answered with; None for a success.
pub(crate) fn of_answer(address: &str, status: u16, body: &[u8]) -> Option<Error> {
    if (200..300).contains(&status) {
        return None;
    }
    let text = match serde_json::from_slice::<tidegate_rest::Failure>(body) {
        Ok(body) => body.error,
        Err(_) => format!("the jobmanager at {address} answered with the HTTP status {status} and no reason"),
    };
    Some(if matches!(status, 400 | 404 | 409 | 413) { Error::job(text) } else { Error::environment(text) })
}

/// No address has answered: each with the cause.
pub(crate) fn of_all(causes: &[(String, String)]) -> Error {
    // Where there is something that answers otherwise, another one need not be started.
    let is_tls = |(_, cause): &(String, String)| cause.contains("TLS") || cause.contains("certificate");
    let advice = match causes.iter().all(is_tls) {
        true => "",
        false => {
            ". Does one run there ('tidegate jobmanager')? --jobmanager or TIDEGATE_JOBMANAGER name another one"
        }
    };
    let causes: Vec<String> =
        causes.iter().map(|(address, cause)| format!("at {address}: {cause}")).collect();
    Error::environment(format!("no jobmanager answers {}{advice}", causes.join(", ")))
}

/// What was wrong when a request was sent.
pub(crate) fn of_transport(error: ureq::Error, timeout_s: f64) -> Failure {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    match error {
        ureq::Error::HostNotFound => Failure::NotDone("the host is not known".to_owned()),
        ureq::Error::ConnectionFailed | ureq::Error::Timeout(ureq::Timeout::Resolve) => {
            Failure::NotDone("cannot connect".to_owned())
        }
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            Failure::NotDone("the connection was not accepted in time".to_owned())
        }
        ureq::Error::Timeout(_) => Failure::Unknown(format!("no answer within {timeout_s} s")),
        ureq::Error::Io(e)
            if matches!(e.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable) =>
        {
            Failure::NotDone(e.to_string())
        }
        ureq::Error::Io(e) => Failure::Unknown(explain_io(&e)),
        ureq::Error::Other(e) if e.is::<NoTls>() => Failure::NotDone(e.to_string()),
        error => Failure::Unknown(error.to_string()),
    }
}
