//! The admin port, which operators ask: health, owners and the member list.
use std::time::{Duration, Instant};

use axum::{
    Router,
    body::{self, Body},
    extract::{RawQuery, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use peercache::{BuildError, Node};

use crate::{
    config, form,
    phase::{Phase, Phases},
    status,
};

/// The longest member list that is read: ten thousand names of a hundred letters.
const LIST_BYTES_MAX: usize = 1 << 20;
/// The time that a caller may take to send one.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
const LIST_EXPECTED: &str = "the body must be a JSON array of URLs, such as [\"http://127.0.0.1:9090\"]";

/// The admin routes of one node.
pub fn router(node: Node, phases: Phases) -> Router {
    Router::new()
        .route("/healthz", get("ok\n"))
        .route("/readyz", get(ready).with_state(phases.clone()))
        .route("/owner", get(owner).with_state(node.clone()))
        .route("/peers", get(peers).put(set_members).with_state(node.clone()))
        .route("/status.json", get(status::show).with_state((node, phases, Instant::now())))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "ask for /healthz, /readyz, /owner?key=KEY, /peers or /status.json\n")
        })
}

async fn ready(State(phases): State<Phases>) -> (StatusCode, &'static str) {
    match phases.now() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn owner(State(node): State<Node>, RawQuery(query): RawQuery) -> Response {
    match form::field(query.as_deref(), "key") {
        Some(key) => node.owner(&key).into_response(),
        None => (StatusCode::BAD_REQUEST, "write whose owner you ask for: ?key=KEY\n").into_response(),
    }
}

async fn peers(State(node): State<Node>) -> Response {
    let names = serde_json::json!(node.members().view().names()).to_string();
    ([(CONTENT_TYPE, "application/json")], names).into_response()
}

async fn set_members(State(node): State<Node>, body: Body) -> Response {
    match replace_list(node, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err((status, why)) => (status, format!("{why}\n")).into_response(),
    }
}

async fn replace_list(node: Node, body: Body) -> Result<(), (StatusCode, String)> {
    let body = tokio::time::timeout(LIST_TIMEOUT, body::to_bytes(body, LIST_BYTES_MAX))
        .await
        .map_err(|_| (StatusCode::REQUEST_TIMEOUT, "the list took too long to arrive".to_owned()))?
        .map_err(|_| (StatusCode::BAD_REQUEST, format!("the list is longer than {LIST_BYTES_MAX} bytes")))?;
    let names: Vec<String> = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("{LIST_EXPECTED}: {error}")))?;
    for name in &names {
        config::member(name).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    }
    // To build a ring takes milliseconds, which would delay all other tasks of this thread.
    tokio::task::spawn_blocking(move || node.set_members(names))
        .await
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        .map_err(|error| (StatusCode::BAD_REQUEST, sentence(&error)))
}

fn sentence(error: &BuildError) -> String {
    match error {
        BuildError::SelfMissing(name) => format!("the list must name this node, {name}, too"),
        _ => error.to_string(),
    }
}
