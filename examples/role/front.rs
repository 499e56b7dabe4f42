//! The front, which people ask: `/role` and `/raw`.
use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_TYPE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use peercache::{Group, Source};

use crate::{
    failure_log::FailureLog,
    phase::{Phase, Phases},
    refusal::refused,
    request::RoleRequest,
    text::Text,
    update::Updates,
};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const CACHE_HEADER: &str = "x-cache";

/// The roles to read, and where failures are logged.
#[derive(Clone)]
struct Reads {
    roles: Group<Bytes>,
    failures: FailureLog,
}

/// The front of one node.
pub fn router(roles: Group<Bytes>, updates: Updates, phases: Phases) -> Router {
    let reads = Reads { roles, failures: updates.failures().clone() };
    Router::new()
        .route("/role", get(role).with_state(reads.clone()).merge(updates.routes()))
        .route("/raw", get(raw).with_state(reads))
        .fallback(async || (StatusCode::NOT_FOUND, "ask for /role?name=NAME or /raw?name=NAME\n"))
        .layer(middleware::from_fn_with_state(phases, close_connection_when_draining))
}

async fn role(State(reads): State<Reads>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let request = match RoleRequest::read(query.as_deref(), &headers) {
        Ok(request) => request,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match request.answer(&reads.roles).await {
        Ok(answer) => {
            let sentence =
                ["老人家,你儿子".into(), request.name.into(), ",现在是".into(), answer.value, "了!\n".into()];
            found(answer.source, TEXT, Body::new(Text::new(sentence.into())))
        }
        Err(error) => refused(&error, &reads.failures),
    }
}

async fn raw(State(reads): State<Reads>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let request = match RoleRequest::read(query.as_deref(), &headers) {
        Ok(request) => request,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match request.answer(&reads.roles).await {
        Ok(answer) => found(answer.source, BYTES, Body::from(answer.value)),
        Err(error) => refused(&error, &reads.failures),
    }
}

fn found(source: Source, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_HEADER, HeaderValue::from_static(source.as_str()));
    response
}

/// Tells callers of a draining node to close their connection, rather than to ask on it in vain.
async fn close_connection_when_draining(State(phases): State<Phases>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if phases.now() == Phase::Draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
