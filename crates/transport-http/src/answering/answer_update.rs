//! A change that a peer tells of, made.

use axum::{body::Body, extract::Request, response::Response};
use http::StatusCode;
use http_body_util::Full;
use peercache_groupcache::Change;

use super::{
    answer_native::frames,
    request_body::{self, Bounds},
    router::{Desk, text},
};
use crate::{answer, frame, update};

pub(super) async fn answer(desk: &Desk, request: Request) -> Response {
    if desk.is_from_self(request.headers()) {
        return refused(answer::MYSELF, "");
    }
    make(desk, request.into_body()).await
}

async fn make(desk: &Desk, body: Body) -> Response {
    let bounds = Bounds { bytes_max: update::bytes_max(desk.key_bytes_max), value_bytes_max: desk.value_bytes_max };
    let body = match request_body::read(desk, body, bounds).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(update) = update::read(body.bytes.clone(), desk.key_bytes_max) else {
        return text(StatusCode::BAD_REQUEST, "bad request\n");
    };
    if matches!(&update.change, Change::Set(set) if set.value.len() > desk.value_bytes_max) {
        return too_long();
    }
    let Some(group) = desk.groups.get(&update.group) else {
        return refused(answer::UNKNOWN_GROUP, &update.group);
    };
    match group.update(update) {
        Ok(ack) => frames(Full::new(frame::ack(&ack))),
        Err(error) => {
            let (code, _) = answer::code_and_word(error.kind());
            refused(code, &answer::text_of(&error))
        }
    }
}

fn too_long() -> Response {
    text(StatusCode::PAYLOAD_TOO_LARGE, "the value is too long\n")
}

fn refused(code: u8, text: &str) -> Response {
    frames(Full::new(frame::error(0, &answer::payload(code, text))))
}
