//! All routes, and the document that has all of them: a handler describes itself, and both are made of the handlers.
//! A route without a description would not be in the document, so there is none (`scripts/absences.sh`).

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{BODY_BYTES_MAX, State, answer, auth, cluster, document, executables, jobs, link, logs, why};

type Routes = OpenApiRouter<Arc<State>>;

/// All routes, and their document.
pub(super) fn of(state: Arc<State>) -> (Router, OpenApi) {
    let mut signed = signed(&state);
    document::add_signature(signed.get_openapi_mut());
    let unsigned = Routes::new().routes(routes!(auth::challenge)).routes(routes!(document::document));
    let all = Routes::with_openapi(document::beginning())
        .nest("/v1", unsigned.merge(signed))
        .fallback(answer::no_such_path)
        .with_state(state);
    let (routes, document) = all.split_for_parts();
    (routes.method_not_allowed_fallback(answer::no_such_method), document)
}

/// Those that need a signature.
fn signed(state: &Arc<State>) -> Routes {
    let short = Routes::new()
        .routes(routes!(cluster::overview))
        .routes(routes!(cluster::taskmanagers))
        .routes(routes!(link::connect))
        .routes(routes!(executables::plan))
        .routes(routes!(executables::run))
        .routes(routes!(executables::check))
        .nest("/jobs", of_jobs())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(state.clone(), auth::check_request));
    // It checks the signature itself, and reads the body as it comes.
    let long = Routes::new().routes(routes!(executables::upload)).layer(DefaultBodyLimit::disable());
    short.merge(long)
}

fn of_jobs() -> Routes {
    let job = Routes::new()
        .routes(routes!(jobs::details, jobs::cancel))
        .routes(routes!(jobs::checkpoints))
        .routes(routes!(jobs::exceptions))
        .routes(routes!(jobs::savepoint))
        .routes(routes!(jobs::operation))
        .routes(routes!(jobs::stop))
        .routes(routes!(jobs::requirements, jobs::rescale))
        .routes(routes!(logs::logs))
        .routes(routes!(why::why));
    Routes::new().routes(routes!(jobs::all)).routes(routes!(jobs::overview)).nest("/{job}", job)
}
