//! Who may ask: everybody who can sign requests with the cluster secret.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State as Given};
use axum::http::header::{AUTHORIZATION, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tidegate_access::{Challenges, Proof, Refused, Secret};
use tidegate_rest::Challenge;

use super::answer::Wrong;
use super::connections::Peer;
use super::extract::Json;
use super::{BODY_BYTES_MAX, State};

/// The header by which the server proves that it has the secret.
const PROOF: HeaderName = HeaderName::from_static("tidegate-proof");

/// Checks signatures.
pub(super) struct Auth {
    began: Instant,
    challenges: Mutex<Challenges>,
}

impl Auth {
    pub(super) fn new(secret: Secret) -> Self {
        let challenges = Challenges::new(secret, Secret::generate());
        Self { began: Instant::now(), challenges: Mutex::new(challenges) }
    }

    /// Checks the signature of a request whose body has this hash.
    pub(super) fn check(&self, parts: &Parts, body_sha256: [u8; 32]) -> Result<Proof, Wrong> {
        let header =
            parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let target =
            parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0);
        let target = target.path_and_query().map_or("/", |target| target.as_str());
        let request = tidegate_access::Request { method: parts.method.as_str(), target, body_sha256 };
        let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = challenges.verify(self.began.elapsed(), header, &request);
        let proof = checked.map_err(|refused| Wrong::new(StatusCode::UNAUTHORIZED, refused.to_string()))?;
        if let Some(peer) = parts.extensions.get::<Peer>() {
            peer.seat.has_proved();
        }
        Ok(proof)
    }
}

/// Issues a challenge, with which requests are signed.
#[utoipa::path(
    get,
    path = "/challenge",
    responses((status = 200, description = "A challenge", body = Challenge))
)]
pub(super) async fn challenge(Given(state): Given<Arc<State>>) -> Json<Challenge> {
    let challenges = state.auth.challenges.lock().unwrap_or_else(PoisonError::into_inner);
    Json(Challenge { challenge: challenges.challenge(state.auth.began.elapsed()) })
}

/// Checks the signature of a request, whose body is short.
pub(super) async fn check_body(Given(state): Given<Arc<State>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if !parts.headers.contains_key(AUTHORIZATION) {
        // Whoever does not even claim to have the secret is not listened to.
        let refused = Wrong::new(StatusCode::UNAUTHORIZED, Refused::Missing.to_string());
        return refused.into_response();
    }
    let reading = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let body = match tokio::time::timeout(state.limits.authentication, reading).await {
        Ok(Ok(body)) => body,
        Err(_) => {
            let text = "the request has not arrived in time (timeouts.authentication)";
            return Wrong::new(StatusCode::REQUEST_TIMEOUT, text).into_response();
        }
        Ok(Err(_)) => {
            let text = format!("the request is longer than {BODY_BYTES_MAX} bytes, or was cut off");
            return Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
    };
    let checked = state.auth.check(&parts, Sha256::digest(&body).into());
    match checked {
        Ok(proof) => {
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            with_proof(response, &proof)
        }
        Err(wrong) => wrong.into_response(),
    }
}

/// Adds the proof to a response.
pub(super) fn with_proof(mut response: Response, proof: &Proof) -> Response {
    if let Ok(value) = HeaderValue::from_str(&proof.to_string()) {
        response.headers_mut().insert(PROOF, value);
    }
    response
}
