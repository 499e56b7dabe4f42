//! The bodies of native requests, read within bounds.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::{sync::SemaphorePermit, time::timeout};

use crate::server::router::{Desk, text};
use crate::wire::gather::Gather;

/// A body up to here may be waited for on every connection; there is less room for larger ones.
const SMALL_BODY_BYTES: usize = 4 * 1024;

/// How many bytes a body may have.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// All that is not a value.
    pub(super) bytes_max: usize,
    /// A value in it.
    pub(super) value_bytes_max: usize,
}

/// A body, and what it holds for as long as it is there.
pub(super) struct RequestBody<'a> {
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Why a body could not be read.
enum Unread {
    TooLong,
    Broken,
}

/// Reads a body, or says what is answered instead.
pub(super) async fn read(desk: &Desk, body: Body, bounds: Bounds) -> Result<RequestBody<'_>, Response> {
    match timeout(desk.body_read_timeout, gather(desk, body, bounds)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Unread::TooLong)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")),
        Ok(Err(Unread::Broken)) => Err(text(StatusCode::BAD_REQUEST, "bad request\n")),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n")),
    }
}

async fn gather(desk: &Desk, mut body: Body, bounds: Bounds) -> Result<RequestBody<'_>, Unread> {
    let bytes_max = bounds.bytes_max.saturating_add(bounds.value_bytes_max);
    let hint = body.size_hint();
    let claimed = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if claimed > bytes_max {
        return Err(Unread::TooLong);
    }
    // A chunked body does not say in advance how long it is.
    let expected = hint.exact().map_or(bytes_max, |_| claimed);
    let mut room = None;
    if claimed > SMALL_BODY_BYTES {
        room = Some(room_for(desk, expected, bounds).await);
    }
    let mut gather = Gather::new(hint.exact().map(|_| claimed), bytes_max);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if room.is_none() && gather.len() + piece.len() > SMALL_BODY_BYTES {
            room = Some(room_for(desk, expected, bounds).await);
        }
        gather.push(piece).map_err(|_| Unread::TooLong)?;
    }
    Ok(RequestBody { bytes: gather.finish(), _room: room })
}

/// Room for a body that is not small: a place for one of keys, bytes for one with a large value.
async fn room_for(desk: &Desk, expected: usize, bounds: Bounds) -> SemaphorePermit<'_> {
    match expected > bounds.bytes_max {
        true => desk.room_for_value(expected).await,
        false => desk.place_for_large_body().await,
    }
}
