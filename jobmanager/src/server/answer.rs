//! What is answered when something is wrong.

use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tidegate_protocol::{Error, ErrorKind};
use tidegate_rest::Failure;

use super::extract::Json;

/// The result of a request.
pub(super) type Answered<T> = Result<Json<T>, Wrong>;

/// Why a request has failed.
#[derive(Debug)]
pub(super) struct Wrong {
    status: StatusCode,
    error: String,
}

impl Wrong {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Job => StatusCode::CONFLICT,
            ErrorKind::Environment => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, Json(Failure { error: self.error, not_leading: false })).into_response()
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Wrong {
    Wrong::not_found(format!("there is nothing at {}; the paths begin with /v1", uri.path()))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Wrong {
    Wrong::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}
