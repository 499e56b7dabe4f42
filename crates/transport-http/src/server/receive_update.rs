//! A change that a peer tells of, made.

use axum::{body::Body, extract::Request, response::Response};
use http::StatusCode;
use http_body_util::Full;
use peercache_groupcache::Change;

use crate::wire::{error_codes, frame, update};
use crate::{
    server::get_native::frames,
    server::request_body::{self, Bounds},
    server::router::{Desk, text},
};

pub(super) async fn answer(desk: &Desk, request: Request) -> Response {
    if desk.is_from_self(request.headers()) {
        return refused(error_codes::IS_SELF, "");
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
        return refused(error_codes::UNKNOWN_GROUP, &update.group);
    };
    match group.update(update) {
        Ok(ack) => frames(Full::new(frame::ack(&ack))),
        Err(error) => {
            let (code, _) = error_codes::code_and_word(error.kind());
            refused(code, &error_codes::text_of(&error))
        }
    }
}

fn too_long() -> Response {
    text(StatusCode::PAYLOAD_TOO_LARGE, "the value is too long\n")
}

fn refused(code: u8, text: &str) -> Response {
    frames(Full::new(frame::error(0, &error_codes::payload(code, text))))
}
