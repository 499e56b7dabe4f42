//! Changes that a peer is told of.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use peercache_groupcache::{Ack, Error, ErrorKind, PeerUpdate};

use crate::{
    client::connection::Line,
    client::failure::Failure,
    client::get_http,
    client::get_native::{check_head, post_to},
    client::peer::{NoAnswer, Shared},
    client::response_body::{self, Chunks},
};
use crate::{
    wire::decoder::Decoder,
    wire::frame::Frame,
    wire::identity_header::{Greeting, UPDATE_PATH},
    wire::{error_codes, update},
};

/// Tells the peer, in as many requests as it takes. It may be silent for as long as all of it may take.
pub(super) async fn tell(
    peer: &Shared,
    line: &mut dyn Line,
    update: PeerUpdate,
    within: Duration,
) -> Result<Ack, NoAnswer> {
    let ring = update.ring;
    let parts = update::parts(update, peer.site.key_bytes_max).ok_or(NoAnswer::NotCarried)?;
    if peer.site.plain_gets {
        return Err(NoAnswer::NotCarried);
    }
    if peer.may_be_foreign() && !get_http::find_out(peer, line).await? {
        return Err(NoAnswer::NotCarried);
    }
    let mut told = None;
    for part in &parts {
        told = Some(and_then(told, tell_part(peer, line, update::body(part), within).await?, ring));
    }
    Ok(told.expect("a change has one part at least"))
}

/// What the peer says of two parts of a change: the later moment, and a ring that is not ours if either had one.
fn and_then(earlier: Option<Ack>, mut later: Ack, ring: u64) -> Ack {
    if let Some(earlier) = earlier.filter(|earlier| earlier.ring != ring) {
        later.ring = earlier.ring;
    }
    later
}

async fn tell_part(peer: &Shared, line: &mut dyn Line, body: Bytes, within: Duration) -> Result<Ack, NoAnswer> {
    match post(peer, line, body.clone(), within).await {
        // Either the connection was a stale one, or the server gives up on paths that it does not know, as golang's
        // does when it is mounted at the root.
        Err(NoAnswer::Failed(Failure::Closed(_))) => match peer.is_ours() || get_http::find_out(peer, line).await? {
            // What is told twice is made twice, which makes no difference.
            true => post(peer, line, body, within).await,
            false => Err(NoAnswer::NotCarried),
        },
        told => told,
    }
}

async fn post(peer: &Shared, line: &mut dyn Line, body: Bytes, silence_max: Duration) -> Result<Ack, NoAnswer> {
    let head = line.send(post_to(peer, UPDATE_PATH, body)?).await?;
    match check_head(peer, &head) {
        Ok(()) => {}
        Err(Failure::PathUnknown(_)) => return Err(NoAnswer::NotCarried),
        Err(Failure::Status(StatusCode::PAYLOAD_TOO_LARGE)) if Greeting::read(&head.headers).is_some() => {
            return Err(NoAnswer::Answered(Error::new(ErrorKind::ValueTooLarge)));
        }
        Err(failure) => return Err(failure.into()),
    }
    let ack = read(Chunks::new(line, silence_max)).await?;
    response_body::finish(line, silence_max, || ()).await;
    Ok(ack)
}

async fn read(mut chunks: Chunks<'_>) -> Result<Ack, NoAnswer> {
    let mut decoder = Decoder::of_answers(0);
    while let Some(mut piece) = chunks.next().await? {
        while let Some(frame) = decoder.next(&mut piece).map_err(Failure::garbage)? {
            match frame {
                Frame::Working => {}
                Frame::Ack(ack) => return Ok(ack),
                Frame::Error { index: 0, code, text } => return Err(refusal(code, &text)),
                _ => return Err(Failure::garbage("a frame that acknowledges nothing").into()),
            }
        }
    }
    Err(Failure::garbage("no acknowledgement before the end").into())
}

fn refusal(code: u8, text: &[u8]) -> NoAnswer {
    match error_codes::kind_of_code(code) {
        Some(kind) => NoAnswer::Answered(error_codes::error_of(kind, text)),
        None if code == error_codes::UNKNOWN_GROUP => Failure::UnknownGroup(error_codes::text_from(text)).into(),
        None if code == error_codes::MYSELF => Failure::Myself.into(),
        None => Failure::garbage(format!("an error of the unknown code {code}")).into(),
    }
}
