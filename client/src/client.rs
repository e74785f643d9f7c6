//! The client: which jobmanager is asked, and what is done with its answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_access::{Request, Secret};
use tidegate_protocol::{Error, ErrorContext, Result};
use tidegate_transport::Connector;
use ureq::http;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use crate::early_answer::HearsEarlyAnswers;
use crate::failure::{self, Failure};
use crate::signed::{Challenge, PROOF_HEADER, Signed};
use crate::tls::TlsConnector;

/// How long a jobmanager may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a request may take, unless the caller says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// From this length on a body is sent only when the jobmanager says that it wants it: it may refuse the signature. A shorter
/// one is sent along, which saves the time for question and answer.
const LONG_BYTES: usize = 16 << 10;
/// How long to wait for that; then the body is sent: a proxy may not have passed the question on.
const WANTED: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// The most bytes of a challenge's answer, which comes from a server that has not proved anything.
const CHALLENGE_BYTES_MAX: u64 = 64 << 10;

/// Sends requests to the jobmanagers of a cluster. Can be shared by threads.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    timeout: Duration,
    /// None for connections without TLS.
    tls: Option<Connector>,
    secret: Secret,
    addresses: Vec<String>,
    known: Mutex<Known>,
}

/// What is known of the jobmanagers.
#[derive(Debug)]
struct Known {
    /// The index of the address that has answered last.
    current: usize,
    /// The challenge of each address.
    challenges: Vec<Option<Challenge>>,
}

/// A request before it is signed.
#[derive(Clone, Copy)]
struct Call<'a> {
    method: &'a str,
    /// Path and query.
    target: &'a str,
    /// The body and its content type.
    body: Option<(&'a [u8], &'a str)>,
}

/// An answer, of which nothing is verified yet.
struct Answer {
    status: u16,
    proof: Option<String>,
    body: Vec<u8>,
}

impl Client {
    /// A client of the jobmanagers at these addresses (`host:port`). Nothing is sent yet.
    pub fn new(addresses: Vec<String>, secret: Secret) -> Self {
        let challenges = addresses.iter().map(|_| None).collect();
        let known = Mutex::new(Known { current: 0, challenges });
        Self { agent: agent(TIMEOUT, None), timeout: TIMEOUT, tls: None, secret, addresses, known }
    }

    /// The same with another timeout for a whole request.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { agent: agent(timeout, self.tls.as_ref()), timeout, ..self }
    }

    /// The same over TLS; None for connections without.
    #[must_use]
    pub fn with_tls(self, tls: Option<Connector>) -> Self {
        Self { agent: agent(self.timeout, tls.as_ref()), tls, ..self }
    }

    /// What makes the connections, if they are over TLS.
    pub fn tls(&self) -> Option<&Connector> {
        self.tls.as_ref()
    }

    /// The addresses of the jobmanagers.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Reads a value; `target` is path and query, such as `/v1/jobs?name=orders`.
    ///
    /// # Errors
    /// Those of all requests: of the environment, if no jobmanager answers, one refuses the secret or does not prove that it
    /// has it, or its answer cannot be parsed; of the job, with the text of the jobmanager, if that has refused the request
    /// for what it says.
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T> {
        parse(&self.call(Call { method: "GET", target, body: None })?)
    }

    /// Reads text that is not JSON, such as metrics.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_text(&self, target: &str) -> Result<String> {
        let body = self.call(Call { method: "GET", target, body: None })?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a value.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn post<B: Serialize + ?Sized, T: DeserializeOwned>(&self, target: &str, body: &B) -> Result<T> {
        self.send("POST", target, body)
    }

    /// Sends a change.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn put<B: Serialize + ?Sized, T: DeserializeOwned>(&self, target: &str, body: &B) -> Result<T> {
        self.send("PUT", target, body)
    }

    /// Sends a change.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn patch<B: Serialize + ?Sized, T: DeserializeOwned>(&self, target: &str, body: &B) -> Result<T> {
        self.send("PATCH", target, body)
    }

    /// Deletes something.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn delete<T: DeserializeOwned>(&self, target: &str) -> Result<T> {
        parse(&self.call(Call { method: "DELETE", target, body: None })?)
    }

    /// Sends bytes, by `POST`. The timeout covers sending them.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn upload<T: DeserializeOwned>(&self, target: &str, bytes: &[u8]) -> Result<T> {
        let body = Some((bytes, "application/octet-stream"));
        parse(&self.call(Call { method: "POST", target, body })?)
    }

    /// Signs a `GET` request without a body, which the caller sends to this address itself. Asks the address for a new
    /// challenge.
    ///
    /// # Errors
    /// If no jobmanager answers there.
    pub fn signed_upgrade(&self, address: &str, target: &str) -> Result<Signed> {
        let challenge = self.new_challenge(address).map_err(|failure| match failure {
            Failure::NotDone(why) | Failure::Unknown(why) => failure::of_all(&[(address.to_owned(), why)]),
            Failure::Final(error) => error,
        });
        Ok(challenge?.sign(&self.secret, address, &Request::of("GET", target, b"")))
    }

    fn send<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: &B,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).context(|| format!("the body of {method} {target}"))?;
        parse(&self.call(Call { method, target, body: Some((&body, "application/json")) })?)
    }

    /// Asks the addresses in turn until one has answered.
    fn call(&self, call: Call<'_>) -> Result<Vec<u8>> {
        let first = self.known().current;
        let mut causes = Vec::new();
        for i in 0..self.addresses.len() {
            let index = (first + i) % self.addresses.len();
            let address = &self.addresses[index];
            match self.ask(index, call) {
                Ok(answer) => {
                    self.known().current = index;
                    return match failure::of_answer(address, answer.status, &answer.body) {
                        Some(error) => Err(error),
                        None => Ok(answer.body),
                    };
                }
                Err(Failure::Unknown(why)) if call.method != "GET" => {
                    return Err(Error::environment(format!(
                        "the jobmanager at {address} was sent a request, but its answer is missing ({why}): the request may \
                         have been carried out"
                    )));
                }
                Err(Failure::NotDone(why) | Failure::Unknown(why)) => causes.push((address.clone(), why)),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        Err(failure::of_all(&causes))
    }

    /// Asks one jobmanager; a second time with a new challenge if it has refused the first one. It does not know that any more
    /// if it was started again, which may have been between the answer with the challenge and the first use of it.
    fn ask(&self, index: usize, call: Call<'_>) -> Result<Answer, Failure> {
        let mut is_repeated = false;
        loop {
            let signed = self.sign(index, call)?;
            let answer =
                self.exchange(call, signed.address(), Some(signed.authorization()), ANSWER_BYTES_MAX)?;
            if answer.status == 401 && !is_repeated {
                self.known().challenges[index] = None;
                is_repeated = true;
                continue;
            }
            if let Some(failure) = failure::of_unproved(signed.address(), answer.status, &answer.body) {
                return Err(failure);
            }
            let verified = signed.verify(answer.proof.as_deref());
            verified.map_err(|error| match answer.status {
                200..300 => Failure::Final(error),
                status => Failure::Final(Error::environment(format!("{error} (HTTP status {status})"))),
            })?;
            return Ok(answer);
        }
    }

    /// Signs a request with the challenge that there is, or a new one.
    fn sign(&self, index: usize, call: Call<'_>) -> Result<Signed, Failure> {
        let address = &self.addresses[index];
        let body = call.body.map_or(&[][..], |(bytes, _)| bytes);
        let request = Request::of(call.method, call.target, body);
        let there = self.known().challenges[index].is_some();
        let new = if there { None } else { Some(self.new_challenge(address)?) };
        let mut known = self.known();
        let challenge = &mut known.challenges[index];
        // Another thread may have removed the challenge, or got one, too.
        let challenge = match (challenge, new) {
            (Some(challenge), _) => challenge,
            (none, Some(new)) => none.insert(new),
            (None, None) => {
                drop(known);
                let mut new = self.new_challenge(address)?;
                return Ok(new.sign(&self.secret, address, &request));
            }
        };
        Ok(challenge.sign(&self.secret, address, &request))
    }

    fn new_challenge(&self, address: &str) -> Result<Challenge, Failure> {
        let call = Call { method: "GET", target: "/v1/challenge", body: None };
        // Nothing was asked for yet: another jobmanager may do it, whatever has gone wrong.
        let answer =
            self.exchange(call, address, None, CHALLENGE_BYTES_MAX).map_err(|failure| match failure {
                Failure::Unknown(why) => Failure::NotDone(why),
                failure => failure,
            })?;
        if let Some(failure) = failure::of_unproved(address, answer.status, &answer.body) {
            return Err(failure);
        }
        let body: Option<tidegate_rest::Challenge> = serde_json::from_slice(&answer.body).ok();
        match body.filter(|_| answer.status == 200) {
            Some(body) => Ok(Challenge::new(body.challenge)),
            None => Err(failure::of_no_challenge(answer.status, &answer.body)),
        }
    }

    /// Sends a request and receives the answer.
    fn exchange(
        &self,
        call: Call<'_>,
        address: &str,
        authorization: Option<&str>,
        bytes_max: u64,
    ) -> Result<Answer, Failure> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{address}{}", call.target);
        let mut request = http::Request::builder().method(call.method).uri(uri);
        if let Some(authorization) = authorization {
            request = request.header(http::header::AUTHORIZATION, authorization);
        }
        let invalid = |error: http::Error| {
            Failure::Final(Error::job(format!(
                "'{address}' is not an address (host:port), or '{}' not a path: {error}",
                call.target
            )))
        };
        let sent = match call.body {
            Some((bytes, kind)) => {
                let mut request = request.header(http::header::CONTENT_TYPE, kind);
                if bytes.len() >= LONG_BYTES {
                    request = request.header(http::header::EXPECT, "100-continue");
                }
                self.agent.run(request.body(bytes).map_err(invalid)?)
            }
            None => self.agent.run(request.body(()).map_err(invalid)?),
        };
        let failed = |error| failure::of_transport(error, self.timeout.as_secs_f64());
        let mut response = sent.map_err(failed)?;
        let proof = response.headers().get(PROOF_HEADER);
        Ok(Answer {
            status: response.status().as_u16(),
            proof: proof.and_then(|value| value.to_str().ok()).map(str::to_owned),
            body: response.body_mut().with_config().limit(bytes_max).read_to_vec().map_err(failed)?,
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without kept connections: one that the jobmanager has closed meanwhile could not be told from a request that was lost.
fn agent(timeout: Duration, tls: Option<&Connector>) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT.min(timeout)))
        .timeout_await_100(Some(WANTED))
        .timeout_global(Some(timeout))
        .build();
    let (connector, resolver) =
        (TcpConnector::default().chain(HearsEarlyAnswers), DefaultResolver::default());
    match tls {
        Some(tls) => {
            // Below TLS, which cannot be read from while something of it cannot be sent, and above it, where the answer is.
            let connector = connector.chain(TlsConnector(tls.clone())).chain(HearsEarlyAnswers);
            ureq::Agent::with_parts(config, connector, resolver)
        }
        None => ureq::Agent::with_parts(config, connector, resolver),
    }
}

/// An empty body is JSON's `null`: the answer to a request that has nothing to tell.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Error::environment(
            "the answer of the jobmanager cannot be parsed; is it of the same version as this program?",
        )
        .caused_by(error)
    })
}
