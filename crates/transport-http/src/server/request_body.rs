//! The bodies of native requests, read within limits.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::{
    auth::gate::Admitted,
    server::arriving_bytes::{BodyShare, CutOff},
    server::connection::ClientAddress,
    server::response::{bad_request, text},
    server::state::ServerState,
    wire::gather::Gather,
};

/// The first bytes of a body that need no share: as many may be waited for on every connection.
const SMALL_BODY_BYTES: usize = 4 * 1024;

/// The bytes that a body may have.
#[derive(Clone, Copy)]
pub(super) struct BodyLimits {
    /// The bytes of all but a value.
    pub(super) max_bytes: usize,
    /// The bytes of a value in it.
    pub(super) max_value_bytes: usize,
}

/// A body with its share of the bytes that arrive.
pub(super) struct RequestBody {
    pub(super) bytes: Bytes,
    _share: BodyShare,
}

enum ReadError {
    TooLong,
    Broken,
    CutOff,
    NotTheSigned,
}

/// Reads the body of a request that was admitted. One that is not the body that was signed is not
/// returned.
///
/// # Errors
/// The answer to a body that cannot be read.
pub(super) async fn read(
    state: &ServerState,
    head: &Parts,
    admitted: &Admitted,
    body: Body,
    limits: BodyLimits,
) -> Result<RequestBody, Response> {
    let share = state.arriving.begin(head.extensions.get().map(|ClientAddress(address)| *address));
    match timeout(state.body_read_timeout, gather(share, admitted, body, limits)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(ReadError::TooLong)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")),
        Ok(Err(ReadError::Broken)) => Err(bad_request()),
        Ok(Err(ReadError::CutOff)) => Err(text(StatusCode::SERVICE_UNAVAILABLE, "the body came too slowly\n")),
        Ok(Err(ReadError::NotTheSigned)) => {
            Err(text(StatusCode::FORBIDDEN, "the body is not the one that was signed\n"))
        }
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n")),
    }
}

async fn gather(
    mut share: BodyShare,
    admitted: &Admitted,
    mut body: Body,
    limits: BodyLimits,
) -> Result<RequestBody, ReadError> {
    let max_bytes = limits.max_bytes.saturating_add(limits.max_value_bytes);
    let hint = body.size_hint();
    let claimed = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if claimed > max_bytes {
        return Err(ReadError::TooLong);
    }
    let mut hasher = Sha256::new();
    let mut gather = Gather::new(hint.exact().map(|_| claimed), max_bytes);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = share.cut_off() => return Err(ReadError::CutOff),
        };
        let Some(frame) = frame else { break };
        let Ok(piece) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        let length = gather.len() + piece.len();
        let counted = length.saturating_sub(SMALL_BODY_BYTES).min(piece.len());
        if counted > 0 {
            share.grow(counted).await?;
        }
        if admitted.is_signed() {
            hasher.update(&piece);
        }
        gather.push(piece).map_err(|_| ReadError::TooLong)?;
    }
    share.arrived();
    if !admitted.is_body(|| hasher.finalize().into()) {
        return Err(ReadError::NotTheSigned);
    }
    Ok(RequestBody { bytes: gather.finish(), _share: share })
}

impl From<CutOff> for ReadError {
    fn from(CutOff: CutOff) -> Self {
        ReadError::CutOff
    }
}
