//! The native get, as it is answered.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::Full;
use peercache_groupcache::{ErrorKind, ServedGroup, Terms};

use crate::{
    auth::gate::Admitted,
    server::batch_body::{Answers, BatchBody},
    server::reply_frames::RequestLimits,
    server::request_body::{self, BodyLimits},
    server::response::{bad_request, error_frame, frames},
    server::single_body::SingleBody,
    server::state::ServerState,
    wire::{error_codes, frame, get_request},
};

pub(super) async fn answer(state: &ServerState, head: &Parts, admitted: &Admitted, body: Body) -> Response {
    let limits = BodyLimits { max_bytes: frame::max_request_bytes(state.max_key_bytes), max_value_bytes: 0 };
    let request = match request_body::read(state, head, admitted, body, limits).await {
        Ok(body) => get_request::read(body.bytes, state.max_key_bytes),
        Err(refusal) => return refusal,
    };
    let Some(request) = request else { return bad_request() };
    let Some(group) = std::str::from_utf8(&request.group).ok().and_then(|name| state.groups.get(name)) else {
        let name = String::from_utf8_lossy(&request.group);
        return error_frame(error_codes::UNKNOWN_GROUP, &name);
    };
    let max_silence = Duration::from_millis(request.ask.silence_ms.into());
    let max_value_bytes = request.max_value_bytes;
    match <[(Bytes, Terms); 1]>::try_from(request.keys) {
        Ok([(key, terms)]) => {
            let served = state.budget_for(head).answer(group, key, terms);
            let limits = RequestLimits { max_value_bytes, has_deadline: terms.timeout.is_some() };
            frames(SingleBody::new(served, max_silence, limits))
        }
        Err(keys) => {
            let count = keys.len();
            match answer_many(state, head, group, keys) {
                Some(answers) => frames(BatchBody::new(answers, max_silence, max_value_bytes)),
                None => frames(Full::new(overload(count))),
            }
        }
    }
}

/// The group's answers to these keys, of which those on the same terms are loaded together; `None`
/// when too many are asked for.
fn answer_many(
    state: &ServerState,
    head: &Parts,
    group: Arc<dyn ServedGroup>,
    keys: Vec<(Bytes, Terms)>,
) -> Option<Answers> {
    let permit = state.permits.keys(group.name(), keys.iter().map(|(key, _)| key.len()))?;
    let mut answers = Answers::new(state.budget_for(head), group, keys.len(), permit);
    let mut rest: Vec<(u16, Bytes, Terms)> = (0..).zip(keys).map(|(index, (key, terms))| (index, key, terms)).collect();
    while let Some(&(.., terms)) = rest.first() {
        let (alike, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(.., other)| *other == terms);
        answers.ask(alike.into_iter().map(|(index, key, _)| (index, key)).collect(), terms);
        rest = others;
    }
    Some(answers)
}

/// Overload as the answer to each of this many keys, without a text that would be there as often.
fn overload(keys: usize) -> Bytes {
    let (code, _) = error_codes::code_and_word(ErrorKind::Overloaded);
    let payload = error_codes::payload(code, "");
    (0..).take(keys).map(|index| frame::error(index, &payload)).collect::<Vec<_>>().concat().into()
}
