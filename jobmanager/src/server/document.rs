//! The OpenAPI document of the REST interface: `GET /v1/openapi.json`.
//!
//! The routes are made of handlers that describe themselves, so the document has every route. What is the same for all
//! operations is not repeated there: it is added here, by what an operation takes. The document describes the interface of
//! a release and nothing of a cluster, so that it is served without a signature.

use axum::Extension;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tidegate_rest::Failure;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Type};
use utoipa::{Modify, OpenApi as _};

/// The name of the security scheme.
const SIGNED: &str = "signed";

const HOW_TO_SIGN: &str = "The request is signed with the cluster secret, which is not sent. The value is `Tidegate \
     challenge=C,counter=N,nonce=R,body=H,mac=M`. C is the answer of `GET /v1/challenge`, good for a minute. N is a number, \
     greater with every request that is signed with C. R is random, at most 128 letters and digits. H is the SHA-256 of the \
     body (without a body, of zero bytes), in hexadecimal digits. M is the HMAC-SHA-256, in hexadecimal digits, with the \
     text of the secret file without its newline as the key, of these parts, each with its length in front (8 bytes, \
     little-endian): the word `request`, C, N in decimal digits, R, the method, path and query as they are sent, and the 32 \
     bytes of H. docs/cluster.md has it in Python. The signature is checked before the body is read: whoever sends \
     `Expect: 100-continue` need not send a body that is refused. The header `Tidegate-Proof` of the response shows that the \
     jobmanager has the secret, too. A request without a signature, or with one that is too old, is answered by 401: ask for \
     a new challenge, and send it again.";

/// What the document begins with.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "The REST interface of the jobmanager. Paths, methods and field names are those of Flink's where the \
                       thing is the same. Times are milliseconds since the Unix epoch, durations are milliseconds."
    ),
    components(schemas(Failure)),
    modifiers(&Shared)
)]
struct Beginning;

/// What operations refer to.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut OpenApi) {
        let header = ApiKeyValue::with_description("Authorization", HOW_TO_SIGN);
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(SIGNED, SecurityScheme::ApiKey(ApiKey::Header(header)));
        for (status, why) in [OF_ALL, OF_PARAMETERS, OF_CHANGES, OF_BODIES].concat() {
            components.responses.insert(name_of(status), failure(status, why).into());
        }
    }
}

/// The document before it has operations.
pub(super) fn beginning() -> OpenApi {
    Beginning::openapi()
}

/// Adds to operations what all of those have that need a signature.
pub(super) fn add_signature(document: &mut OpenApi) {
    for (method, operation) in operations(document) {
        operation.security = Some(vec![SecurityRequirement::new(SIGNED, [] as [&str; 0])]);
        for (status, _) in failures(method, operation) {
            let shared = RefOr::Ref(Ref::from_response_name(name_of(status)));
            operation.responses.responses.entry((*status).to_owned()).or_insert(shared);
        }
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                add_proof(response);
            }
        }
    }
}

/// The name of a response that operations share.
fn name_of(status: &str) -> String {
    format!("Failure{status}")
}

/// The response of a request that has failed.
fn failure(status: &str, why: &str) -> Response {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Failure"))));
    let mut response = ResponseBuilder::new().description(why).content("application/json", content).build();
    if status != "401" {
        add_proof(&mut response);
    }
    response
}

fn add_proof(response: &mut Response) {
    let digits = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9a-f]{64}$"));
    let header = HeaderBuilder::new().schema(Some(digits)).description(Some(
        "Shows that the jobmanager has the cluster secret. Missing if the signature was not checked.",
    ));
    response.headers.insert("Tidegate-Proof".to_owned(), header.build().into());
}

/// By which statuses an operation can fail, by what it takes.
fn failures(method: HttpMethod, operation: &Operation) -> Vec<&'static (&'static str, &'static str)> {
    let has_body = operation.request_body.is_some();
    let has_parameters = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    let mut failures: Vec<_> = OF_ALL.iter().collect();
    failures.extend(OF_PARAMETERS.iter().filter(|_| has_parameters));
    failures.extend(OF_CHANGES.iter().filter(|_| method != HttpMethod::Get));
    failures.extend(OF_BODIES.iter().filter(|_| has_body));
    failures
}

const OF_ALL: &[(&str, &str)] = &[
    ("401", "The request is not signed, or its signature is refused"),
    ("408", "The request has not arrived in time"),
    ("413", "The request is too long, or was cut off"),
    ("500", "A defect of Tidegate"),
    ("503", "The environment does not allow it now: the same request may be carried out later"),
];
const OF_PARAMETERS: &[(&str, &str)] = &[
    ("400", "A part of the path, of the query or of the body is invalid"),
    ("404", "What the path names does not exist"),
];
const OF_CHANGES: &[(&str, &str)] = &[("409", "The job, or its state, does not allow it")];
const OF_BODIES: &[(&str, &str)] = &[
    ("415", "The content type of the body is another one than application/json"),
    ("422", "The body is JSON, but not what is expected"),
];

/// All operations of a document.
pub(super) fn operations(document: &mut OpenApi) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    document.paths.paths.values_mut().flat_map(|path| {
        use HttpMethod::{Delete, Get, Patch, Post, Put};
        let all = [
            (Get, &mut path.get),
            (Put, &mut path.put),
            (Post, &mut path.post),
            (Delete, &mut path.delete),
            (Patch, &mut path.patch),
        ];
        all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
    })
}

/// The document as it is served.
#[derive(Clone)]
pub(super) struct Served(Bytes);

impl Served {
    /// # Errors
    /// If the document cannot be written as JSON.
    pub(super) fn new(document: &OpenApi) -> serde_json::Result<Self> {
        Ok(Self(document.to_pretty_json()?.into()))
    }
}

/// Describes this interface, as an OpenAPI document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, description = "This document", body = Object))
)]
pub(super) async fn document(Extension(Served(text)): Extension<Served>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text)
}
