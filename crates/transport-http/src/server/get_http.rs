//! golang/groupcache's GET, as it is answered.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use peercache_groupcache::{Error, ErrorKind, Terms};

use crate::{
    dialect::Dialect,
    server::prefixed_body::PrefixedBody,
    server::response::{bad_request, text},
    server::state::ServerState,
    wire::error_codes::{self, ERROR_WORD, MAX_TEXT_BYTES},
    wire::{escape, protobuf, reply_meta},
};

/// The time after which a client may ask again when loads are too many, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// The path is golang's own, in whatever dialect this node asks its peers.
const PATH_DIALECT: Dialect = Dialect::Golang;

pub(super) async fn answer(state: &ServerState, request: &http::request::Parts) -> Response {
    let Some((group, key)) = group_and_key(&state.base_path, request.uri.path()) else {
        return bad_request();
    };
    let Some(served_group) = std::str::from_utf8(&group).ok().and_then(|name| state.groups.get(name)) else {
        return text(StatusCode::NOT_FOUND, [b"no such group: ", &group[..], b"\n"].concat());
    };
    match state.budget_for(request).answer(served_group, key.into(), Terms::new()).finish().await {
        Ok(reply) => {
            // A "not found" without the header would be one that may not be cached.
            let has_header = reply.value.is_none() || !reply_meta::is_default(&reply.meta);
            let mut answer = reply.value.map_or_else(|| refused(&Error::new(ErrorKind::NotFound)), found);
            if has_header {
                answer.headers_mut().insert(reply_meta::HEADER, reply_meta::to_header(&reply.meta));
            }
            answer
        }
        Err(error) => refused(&error),
    }
}

/// Group and key, decoded after the path is cut at the first slash: a group may have one, escaped.
fn group_and_key(base_path: &str, path: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (group, key) = path.strip_prefix(base_path)?.split_once('/')?;
    let plus_is_space = PATH_DIALECT.plus_is_space();
    Some((escape::unescape(group.as_bytes(), plus_is_space)?, escape::unescape(key.as_bytes(), plus_is_space)?))
}

fn found(value: Bytes) -> Response {
    let prefix = protobuf::value_prefix(value.len());
    let mut answer = Response::new(Body::new(PrefixedBody::new(&prefix, value)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    answer
}

fn refused(error: &Error) -> Response {
    let (_, word) = error_codes::code_and_word(error_codes::kind_for(false, error.kind()));
    let status = match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::LoadTimedOut | ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let words = match error.kind() {
        // A loader's own words could begin as the answer for an unknown group does.
        ErrorKind::NotFound => "not found".to_owned(),
        _ => error_codes::text_of(error),
    };
    let mut answer = text(status, line(&words));
    answer.headers_mut().insert(ERROR_WORD, HeaderValue::from_static(word));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    answer
}

/// One line of at most [`MAX_TEXT_BYTES`] bytes with its end.
fn line(words: &str) -> String {
    error_codes::head(words, MAX_TEXT_BYTES - 1).to_owned() + "\n"
}
