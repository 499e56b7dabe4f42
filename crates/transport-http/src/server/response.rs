//! The two forms of answers beside golang's message: a text, and frames.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;

use crate::wire::{error_codes, frame};

/// An answer in words, with the headers that Go's `http.Error` sets.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(Body::from(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// The answer to a request that cannot be understood.
pub(super) fn bad_request() -> Response {
    text(StatusCode::BAD_REQUEST, "bad request\n")
}

/// A native answer of these frames.
pub(super) fn frames<B>(body: B) -> Response
where
    B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    let mut answer = Response::new(Body::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-peercache"));
    answer
}

/// A native answer of one error.
pub(super) fn error_frame(code: u8, text: &str) -> Response {
    frames(Full::new(frame::error(0, &error_codes::payload(code, text))))
}
