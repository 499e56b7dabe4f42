//! The exchange between our own nodes, answered.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use peercache_groupcache::{ErrorKind, ServedGroup, Terms};

use crate::wire::{error_codes, frame, get_request};
use crate::{
    server::batch_body::{Answers, BatchBody},
    server::reply_frames::RequestLimits,
    server::request_body::{self, Bounds},
    server::router::{Desk, text},
    server::single_body::SingleBody,
};

pub(super) async fn answer(desk: &Desk, request: Request) -> Response {
    if desk.is_from_self(request.headers()) {
        return frames(SingleBody::failure(error_codes::IS_SELF, ""));
    }
    let bounds = Bounds { bytes_max: frame::request_bytes_max(desk.key_bytes_max), value_bytes_max: 0 };
    let asked = match request_body::read(desk, request.into_body(), bounds).await {
        Ok(body) => get_request::read(body.bytes, desk.key_bytes_max),
        Err(refusal) => return refusal,
    };
    let Some(asked) = asked else {
        return text(StatusCode::BAD_REQUEST, "bad request\n");
    };
    let Some(group) = std::str::from_utf8(&asked.group).ok().and_then(|name| desk.groups.get(name)) else {
        let name = String::from_utf8_lossy(&asked.group);
        return frames(SingleBody::failure(error_codes::UNKNOWN_GROUP, &name));
    };
    let silence_max = Duration::from_millis(asked.ask.silence_ms.into());
    let max_value_bytes = asked.value_bytes_max;
    match <[(Bytes, Terms); 1]>::try_from(asked.keys) {
        Ok([(key, terms)]) => {
            let served = desk.budget.answer(group, key, terms);
            frames(SingleBody::new(
                served,
                silence_max,
                RequestLimits { max_value_bytes, has_deadline: terms.timeout.is_some() },
            ))
        }
        Err(keys) => {
            let count = keys.len();
            match answer_many(desk, group, keys) {
                Some(answers) => frames(BatchBody::new(answers, silence_max, max_value_bytes)),
                None => frames(Full::new(overload(count))),
            }
        }
    }
}

/// What the group answers for each of these keys, of which those on the same terms are loaded together; `None` when too
/// many are asked for.
fn answer_many(desk: &Desk, group: Arc<dyn ServedGroup>, keys: Vec<(Bytes, Terms)>) -> Option<Answers> {
    let places = desk.places_for_keys(keys.iter().map(|(key, _)| key.len()))?;
    let mut answers = Answers::new(desk.budget.clone(), group, keys.len(), places);
    let mut rest: Vec<(u16, Bytes, Terms)> = (0..).zip(keys).map(|(index, (key, terms))| (index, key, terms)).collect();
    while let Some(&(.., terms)) = rest.first() {
        let (alike, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(.., other)| *other == terms);
        answers.ask(alike.into_iter().map(|(index, key, _)| (index, key)).collect(), terms);
        rest = others;
    }
    Some(answers)
}

/// The same answer for so many keys, without a text that would be as often there.
fn overload(keys: usize) -> Bytes {
    let (code, _) = error_codes::code_and_word(ErrorKind::Overloaded);
    (0..)
        .take(keys)
        .map(|index| frame::error(index, &error_codes::payload(code, "")))
        .collect::<Vec<_>>()
        .concat()
        .into()
}

pub(super) fn frames<B>(body: B) -> Response
where
    B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    let mut answer = Response::new(Body::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-peercache"));
    answer
}
