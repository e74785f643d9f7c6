//! Who may ask: everybody who can sign requests with the cluster secret.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State as Given};
use axum::http::header::{AUTHORIZATION, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tidegate_access::{Accepted, Challenges, Proof, Refused, Secret};
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

    /// Checks the signature of a request, whose body is not needed for that. What is read of it afterwards must have the
    /// hash that was signed.
    pub(super) fn check(&self, parts: &Parts) -> Result<Accepted, Wrong> {
        let header =
            parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let target =
            parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0);
        let target = target.path_and_query().map_or("/", |target| target.as_str());
        let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = challenges.verify(self.began.elapsed(), header, parts.method.as_str(), target);
        let accepted = checked.map_err(Wrong::from)?;
        if let Some(peer) = parts.extensions.get::<Peer>() {
            peer.seat.has_proved();
        }
        Ok(accepted)
    }
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, refused.to_string())
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

/// Checks the signature of a request, and then reads its body, which is short. Nothing is read for a stranger.
pub(super) async fn check_request(Given(state): Given<Arc<State>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let accepted = match state.auth.check(&parts) {
        Ok(accepted) => accepted,
        Err(wrong) => return wrong.into_response(),
    };
    let response = match read(body, accepted.body_sha256, state.limits.authentication).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(wrong) => wrong.into_response(),
    };
    with_proof(response, &accepted.proof)
}

/// Reads a body, which must have this hash.
async fn read(body: Body, sha256: [u8; 32], time: Duration) -> Result<Bytes, Wrong> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        let text = format!("the request is longer than {BODY_BYTES_MAX} bytes");
        return Err(Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let reading = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let Ok(read) = tokio::time::timeout(time, reading).await else {
        let text = "the request has not arrived in time (timeouts.authentication)";
        return Err(Wrong::new(StatusCode::REQUEST_TIMEOUT, text));
    };
    let body = read.map_err(|_| {
        let text = format!("the request is longer than {BODY_BYTES_MAX} bytes, or was cut off");
        Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    if Sha256::digest(&body)[..] != sha256 {
        return Err(Refused::Wrong.into());
    }
    Ok(body)
}

/// Adds the proof to a response.
pub(super) fn with_proof(mut response: Response, proof: &Proof) -> Response {
    if let Ok(value) = HeaderValue::from_str(&proof.to_string()) {
        response.headers_mut().insert(PROOF, value);
    }
    response
}
