//! An update, as it is received and made.

use axum::{body::Body, response::Response};
use http::{StatusCode, request::Parts};
use http_body_util::Full;
use peercache_groupcache::Change;

use crate::{
    auth::gate::Admitted,
    server::request_body::{self, BodyLimits},
    server::response::{bad_request, error_frame, frames, text},
    server::state::ServerState,
    wire::{error_codes, frame, update},
};

pub(super) async fn answer(state: &ServerState, head: &Parts, admitted: &Admitted, body: Body) -> Response {
    let (max_bytes, max_value_bytes) = (update::max_bytes(state.max_key_bytes), state.max_value_bytes());
    // The body keeps its permit until the update is made.
    let body = match request_body::read(state, head, admitted, body, BodyLimits { max_bytes, max_value_bytes }).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    if let Some(refusal) = state.access.use_up(head, admitted) {
        return refusal;
    }
    let Some(update) = update::read(body.bytes, state.max_key_bytes) else {
        return bad_request();
    };
    if matches!(&update.change, Change::Set(set) if set.value.len() > max_value_bytes) {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the value is too long\n");
    }
    let Some(group) = state.groups.get(&update.group) else {
        return error_frame(error_codes::UNKNOWN_GROUP, &update.group);
    };
    match group.update(update) {
        Ok(ack) => frames(Full::new(frame::ack(&ack))),
        Err(error) => {
            let (code, _) = error_codes::code_and_word(error.kind());
            error_frame(code, &error_codes::text_of(&error))
        }
    }
}
