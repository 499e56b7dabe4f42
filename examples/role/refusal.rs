//! The responses to callers who get no role: one for each error, and one for too much load.
use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use peercache::{Error, ErrorKind};

use crate::failure_log::FailureLog;

/// The seconds after which a caller that was refused for load should ask again.
const RETRY_AFTER_SECS: HeaderValue = HeaderValue::from_static("1");
const TOO_BUSY: &str = "too busy; ask again a little later\n";

/// The response to an error of the cache.
pub fn refused(error: &Error, failures: &FailureLog) -> Response {
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
        failures.warn(&format!("could not answer: {:#}", anyhow::Error::new(error.clone())));
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE => busy(),
        // It names what is missing, as the log does.
        StatusCode::BAD_GATEWAY => (status, format!("the origin failed: {}\n", cause(error))).into_response(),
        _ => (status, why).into_response(),
    }
}

/// The words of what went wrong at the origin.
fn cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// The response to a caller that is refused for load.
pub fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY_AFTER_SECS)], TOO_BUSY).into_response()
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
            let response = refused(&Error::new(kind), &FailureLog::default());
            assert_eq!(response.status().as_u16(), status, "{kind}");
            assert!(!response.headers().contains_key("x-cache"), "{kind}");
        }
    }

    #[test]
    fn a_caller_refused_for_load_is_told_when_to_ask_again() {
        let response = refused(&Error::new(ErrorKind::Overloaded), &FailureLog::default());
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
