//! The bodies of native requests, read within limits.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::{sync::SemaphorePermit, time::timeout};

use crate::{
    auth::gate::Admitted,
    server::response::{bad_request, text},
    server::state::ServerState,
    wire::gather::Gather,
};

/// The longest body, in bytes, that needs no permit: one may be waited for on every connection.
const SMALL_BODY_BYTES: usize = 4 * 1024;

/// The bytes that a body may have.
#[derive(Clone, Copy)]
pub(super) struct BodyLimits {
    /// The bytes of all but a value.
    pub(super) max_bytes: usize,
    /// The bytes of a value in it.
    pub(super) max_value_bytes: usize,
}

/// A body with its permit.
pub(super) struct RequestBody<'a> {
    pub(super) bytes: Bytes,
    _permit: Option<SemaphorePermit<'a>>,
}

enum ReadError {
    TooLong,
    Broken,
    NotTheSigned,
}

/// Reads the body of a request that was admitted. One that is not the body that was signed is not
/// returned.
///
/// # Errors
/// The answer to a body that cannot be read.
pub(super) async fn read<'a>(
    state: &'a ServerState,
    admitted: &Admitted,
    body: Body,
    limits: BodyLimits,
) -> Result<RequestBody<'a>, Response> {
    match timeout(state.body_read_timeout, gather(state, admitted, body, limits)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(ReadError::TooLong)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")),
        Ok(Err(ReadError::Broken)) => Err(bad_request()),
        Ok(Err(ReadError::NotTheSigned)) => {
            Err(text(StatusCode::FORBIDDEN, "the body is not the one that was signed\n"))
        }
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n")),
    }
}

async fn gather<'a>(
    state: &'a ServerState,
    admitted: &Admitted,
    mut body: Body,
    limits: BodyLimits,
) -> Result<RequestBody<'a>, ReadError> {
    let max_bytes = limits.max_bytes.saturating_add(limits.max_value_bytes);
    let hint = body.size_hint();
    let claimed = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if claimed > max_bytes {
        return Err(ReadError::TooLong);
    }
    // A chunked body does not say in advance how long it is.
    let expected = hint.exact().map_or(max_bytes, |_| claimed);
    let mut permit = None;
    if claimed > SMALL_BODY_BYTES {
        permit = Some(permit_for(state, expected, limits).await);
    }
    let mut hasher = Sha256::new();
    let mut gather = Gather::new(hint.exact().map(|_| claimed), max_bytes);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        if permit.is_none() && gather.len() + piece.len() > SMALL_BODY_BYTES {
            permit = Some(permit_for(state, expected, limits).await);
        }
        if admitted.is_signed() {
            hasher.update(&piece);
        }
        gather.push(piece).map_err(|_| ReadError::TooLong)?;
    }
    if !admitted.is_body(|| hasher.finalize().into()) {
        return Err(ReadError::NotTheSigned);
    }
    Ok(RequestBody { bytes: gather.finish(), _permit: permit })
}

/// The permit of a body that is not small: one of few for keys, one by size for a large value.
async fn permit_for(state: &ServerState, expected: usize, limits: BodyLimits) -> SemaphorePermit<'_> {
    if expected > limits.max_bytes { state.permits.value(expected).await } else { state.permits.large_body().await }
}
