//! The front, which people ask: `/role` and `/raw`.
use std::{future::Future, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use peercache::{Answer, Error, ErrorKind, Group};
use tokio::time::{Instant, timeout_at};

use crate::{
    form,
    phase::{Phase, Phases},
    text::Text,
    update::Updates,
};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const CACHE_HEADER: &str = "x-cache";
const TIMEOUT_HEADER: &str = "x-timeout-ms";
/// The longest deadline that a caller can set. A longer one means this.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The seconds after which a caller that was refused for load should ask again.
const RETRY_AFTER_SECS: HeaderValue = HeaderValue::from_static("1");
const TOO_BUSY: &str = "too busy; ask again a little later\n";

/// The front of one node.
pub fn router(roles: Group<Bytes>, updates: Updates, phases: Phases) -> Router {
    Router::new()
        .route("/role", get(role).with_state(roles.clone()).merge(updates.routes()))
        .route("/raw", get(raw).with_state(roles))
        .fallback(async || (StatusCode::NOT_FOUND, "ask for /role?name=NAME or /raw?name=NAME\n"))
        .layer(middleware::from_fn_with_state(phases, close_connection_when_draining))
}

async fn role(State(roles): State<Group<Bytes>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let request = match RoleRequest::read(query.as_deref(), &headers) {
        Ok(request) => request,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match request.answer(&roles).await {
        Ok(answer) => {
            let sentence =
                ["老人家,你儿子".into(), request.name.into(), ",现在是".into(), answer.value, "了!\n".into()];
            found(answer.source, TEXT, Body::new(Text::new(sentence.into())))
        }
        Err(error) => refused(&error),
    }
}

async fn raw(State(roles): State<Group<Bytes>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let request = match RoleRequest::read(query.as_deref(), &headers) {
        Ok(request) => request,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match request.answer(&roles).await {
        Ok(answer) => found(answer.source, BYTES, Body::from(answer.value)),
        Err(error) => refused(&error),
    }
}

/// The name that a request asks for, and its deadline.
pub struct RoleRequest {
    pub name: Vec<u8>,
    timeout: Option<Duration>,
    received: Instant,
}

impl RoleRequest {
    /// Reads query and headers, or returns a sentence that says what is missing.
    pub fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, &'static str> {
        let name = form::field(query, "name").ok_or("write whom you ask for: ?name=NAME\n")?;
        let timeout = headers.get(TIMEOUT_HEADER).map(milliseconds).transpose()?;
        Ok(RoleRequest { name, timeout, received: Instant::now() })
    }

    async fn answer(&self, roles: &Group<Bytes>) -> Result<Answer<Bytes>, Error> {
        let get = roles.get(&self.name);
        match self.timeout {
            Some(timeout) => get.timeout(timeout).detailed().await,
            None => get.detailed().await,
        }
    }

    /// The answer of `work`, or `None` if the deadline is over first.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.timeout {
            Some(timeout) => timeout_at(self.received + timeout, work).await.ok(),
            None => Some(work.await),
        }
    }
}

fn milliseconds(value: &HeaderValue) -> Result<Duration, &'static str> {
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let digits = digits.ok_or("write x-timeout-ms as a number of milliseconds\n")?;
    // A number that does not fit is beyond the longest deadline as well.
    Ok(Duration::from_millis(digits.parse().unwrap_or(u64::MAX)).min(TIMEOUT_MAX))
}

fn found(source: peercache::Source, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_HEADER, HeaderValue::from_static(source.as_str()));
    response
}

/// The response to an error of the cache.
pub fn refused(error: &Error) -> Response {
    let (status, why) = match error.kind() {
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "大伯,咱军营没这个人!\n"),
        ErrorKind::LoadFailed => (StatusCode::BAD_GATEWAY, "the origin failed\n"),
        ErrorKind::LoadTimedOut => (StatusCode::GATEWAY_TIMEOUT, "the origin took too long\n"),
        ErrorKind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "not within x-timeout-ms\n"),
        ErrorKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, TOO_BUSY),
        ErrorKind::ValueTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the role is too long\n"),
        ErrorKind::KeyTooLong => (StatusCode::URI_TOO_LONG, "the name is too long\n"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made\n"),
    };
    if status.is_server_error() {
        let error = anyhow::Error::new(error.clone());
        tracing::warn!(status = status.as_u16(), "could not answer: {error:#}");
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE => busy(),
        _ => (status, why).into_response(),
    }
}

/// The response to a caller that is refused for load.
pub fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY_AFTER_SECS)], TOO_BUSY).into_response()
}

/// Tells callers of a draining node to close their connection, rather than to ask on it in vain.
async fn close_connection_when_draining(State(phases): State<Phases>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if phases.now() == Phase::Draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_status_of_its_own() {
        let kinds = [
            (ErrorKind::NotFound, 404),
            (ErrorKind::LoadFailed, 502),
            (ErrorKind::LoadTimedOut, 504),
            (ErrorKind::DeadlineExceeded, 504),
            (ErrorKind::Overloaded, 503),
            (ErrorKind::ValueTooLarge, 413),
            (ErrorKind::KeyTooLong, 414),
            (ErrorKind::Codec, 500),
        ];
        for (kind, status) in kinds {
            let response = refused(&Error::new(kind));
            assert_eq!(response.status().as_u16(), status, "{kind}");
            assert!(!response.headers().contains_key(CACHE_HEADER), "{kind}");
        }
    }

    #[test]
    fn a_caller_refused_for_load_is_told_when_to_ask_again() {
        let response = refused(&Error::new(ErrorKind::Overloaded));
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
