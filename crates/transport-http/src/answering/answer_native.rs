//! The exchange between our own nodes, answered.

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    reply_body::ReplyBody,
    router::{Desk, text},
};
use crate::{
    answer,
    frame::{self, Decoder, Frame},
    gather::Gather,
};

/// What is asked for.
struct Asked {
    silence_max: Duration,
    value_bytes_max: u64,
    group: Bytes,
    key: Bytes,
}

/// Why a body could not be read.
enum Unread {
    TooLong,
    Broken,
}

/// A body up to here may be waited for on every connection; there is less room for larger ones.
const SMALL_BODY_BYTES: usize = 4 * 1024;

pub(super) async fn answer(desk: &Desk, request: Request) -> Response {
    if desk.is_from_self(request.headers()) {
        return frames(ReplyBody::failure(answer::MYSELF, ""));
    }
    let asked = match read(desk, request.into_body()).await {
        Ok(body) => parse(desk, body),
        Err(refusal) => return refusal,
    };
    let Some(asked) = asked else {
        return text(StatusCode::BAD_REQUEST, "bad request\n");
    };
    let Some(group) = std::str::from_utf8(&asked.group).ok().and_then(|name| desk.groups.get(name)) else {
        let name = String::from_utf8_lossy(&asked.group);
        return frames(ReplyBody::failure(answer::UNKNOWN_GROUP, &name));
    };
    let served = desk.room.answer(group, asked.key);
    frames(ReplyBody::new(served, asked.silence_max, asked.value_bytes_max))
}

async fn read(desk: &Desk, body: Body) -> Result<Bytes, Response> {
    match timeout(desk.body_read_timeout, gather(desk, body)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Unread::TooLong)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")),
        Ok(Err(Unread::Broken)) => Err(text(StatusCode::BAD_REQUEST, "bad request\n")),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n")),
    }
}

async fn gather(desk: &Desk, mut body: Body) -> Result<Bytes, Unread> {
    let bytes_max = frame::request_bytes_max(desk.key_bytes_max);
    let claimed = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if claimed > bytes_max {
        return Err(Unread::TooLong);
    }
    let mut large_body = None;
    if claimed > SMALL_BODY_BYTES {
        large_body = Some(desk.place_for_large_body().await);
    }
    let mut gather = Gather::new(body.size_hint().exact().map(|_| claimed), bytes_max);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        // A chunked body does not say in advance how long it is.
        if large_body.is_none() && gather.len() + piece.len() > SMALL_BODY_BYTES {
            large_body = Some(desk.place_for_large_body().await);
        }
        gather.push(piece).map_err(|_| Unread::TooLong)?;
    }
    Ok(gather.finish())
}

/// `ASK`, `GROUP`, `KEY`, in this order, each once.
fn parse(desk: &Desk, mut body: Bytes) -> Option<Asked> {
    let mut decoder = Decoder::of_requests(desk.key_bytes_max);
    let mut next = || decoder.next(&mut body).ok().flatten();
    let (Frame::Ask { silence_ms }, Frame::Group { value_bytes_max, name }, Frame::Key { index: 0, key }) =
        (next()?, next()?, next()?)
    else {
        return None;
    };
    let ended = next().is_none() && decoder.is_between_frames() && body.is_empty();
    ended.then_some(Asked { silence_max: Duration::from_millis(silence_ms.into()), value_bytes_max, group: name, key })
}

fn frames(body: ReplyBody) -> Response {
    let mut answer = Response::new(Body::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-peercache"));
    answer
}
