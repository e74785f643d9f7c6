//! What is taken from a request, and what an answer is made of: axum's extractors under their own names. A request that
//! they refuse is answered like every other one that fails, with a `Failure`.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer::Wrong;

/// A body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Wrong))]
pub(super) struct Json<T>(pub(super) T);

/// The parts of a path that name something.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Wrong))]
pub(super) struct Path<T>(pub(super) T);

/// The part of the target behind a question mark.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Wrong))]
pub(super) struct Query<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl From<JsonRejection> for Wrong {
    fn from(refused: JsonRejection) -> Self {
        Self::new(refused.status(), refused.body_text())
    }
}

impl From<PathRejection> for Wrong {
    fn from(refused: PathRejection) -> Self {
        Self::new(refused.status(), refused.body_text())
    }
}

impl From<QueryRejection> for Wrong {
    fn from(refused: QueryRejection) -> Self {
        Self::new(refused.status(), refused.body_text())
    }
}
