//! The exchange between our own nodes, asked.

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use peercache_groupcache::{PeerReply, PeerRequest};
use tokio::time::timeout;

use super::{
    chunks::Chunks,
    failure::Failure,
    peer::{Answer, NoAnswer, Shared},
};
use crate::{
    answer,
    frame::{self, Decoder, Frame},
    greeting::{GET_PATH, Greeting},
};

/// Sends the key and reads frames until its answer is there.
pub(super) async fn ask(peer: &Shared, request: &PeerRequest) -> Result<Answer, NoAnswer> {
    if request.key.len() > peer.site.key_bytes_max {
        return Err(NoAnswer::KeyNotCarried);
    }
    let silence_max = peer.site.peer_timeout;
    let head = timeout(silence_max, peer.site.exchange.send(post(peer, request)?)).await;
    let (head, body) = head.map_err(|_| Failure::Silent(silence_max))??.into_parts();
    check_head(peer, &head)?;
    Ok(read(Chunks::new(body, silence_max), request).await?)
}

fn post(peer: &Shared, request: &PeerRequest) -> Result<http::Request<Bytes>, Failure> {
    // The bound is checked when the pool is built to fit in 32 bits.
    let silence_ms = peer.site.peer_timeout.as_millis() as u32;
    let body = frame::request(silence_ms, request.value_bytes_max as u64, &request.group, request.key.as_bytes());
    let (header, greeting) = &peer.site.greeting;
    http::Request::builder()
        .method(Method::POST)
        .uri(Uri::try_from(format!("{}{GET_PATH}", peer.name)).map_err(|error| Failure::Send(error.into()))?)
        .header(header, greeting)
        .body(body)
        .map_err(|error| Failure::Send(error.into()))
}

/// Whether frames follow. A stranger's 200 is no more than its answer to any path.
fn check_head(peer: &Shared, head: &http::response::Parts) -> Result<(), Failure> {
    let greeting = Greeting::read(&head.headers);
    match head.status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Err(Failure::PathUnknown(head.status))
        }
        status if status.is_success() && greeting.is_none() => Err(Failure::PathUnknown(status)),
        status => {
            if greeting.is_some() {
                peer.meet(greeting)?;
            }
            match status {
                StatusCode::OK => Ok(()),
                StatusCode::MISDIRECTED_REQUEST if greeting.is_some() => Err(Failure::Myself),
                status => Err(Failure::Status(status)),
            }
        }
    }
}

async fn read(mut chunks: Chunks, request: &PeerRequest) -> Result<Answer, Failure> {
    let mut decoder = Decoder::of_answers(request.value_bytes_max);
    while let Some(mut piece) = chunks.next().await? {
        while let Some(frame) = decoder.next(&mut piece).map_err(Failure::garbage)? {
            match frame {
                Frame::Working => {}
                Frame::Value { index: 0, value } => {
                    return Ok(Answer { outcome: Ok(PeerReply::new(value)), rest: chunks });
                }
                Frame::Error { index: 0, code, text } => return refusal(code, &text, chunks),
                _ => {
                    return Err(Failure::garbage("a frame that answers nothing that was asked"));
                }
            }
        }
    }
    Err(Failure::garbage(match decoder.is_between_frames() {
        true => "no answer before the end",
        false => "a frame that is cut short",
    }))
}

fn refusal(code: u8, text: &[u8], rest: Chunks) -> Result<Answer, Failure> {
    match answer::kind_of_code(code) {
        Some(kind) => Ok(Answer { outcome: Err(answer::error_of(kind, text)), rest }),
        None if code == answer::UNKNOWN_GROUP => Err(Failure::UnknownGroup(answer::text_from(text))),
        None if code == answer::MYSELF => Err(Failure::Myself),
        None => Err(Failure::garbage(format!("an error of the unknown code {code}"))),
    }
}
