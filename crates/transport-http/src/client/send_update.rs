//! An update, as it is sent.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use peercache_groupcache::{Ack, Error, ErrorKind, PeerUpdate};
use tokio::time::Instant;

use crate::{
    client::connection::Connection,
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    client::probe::probe,
    client::protocol_state::{Event, Protocol},
    client::request::Request,
    client::response_body::{self, ResponseBody},
    wire::decoder::Decoder,
    wire::frame::Frame,
    wire::paths::UPDATE_PATH,
    wire::{error_codes, update},
};

/// Sends an update that was given `since`, in as many requests as it takes. The peer may be silent
/// for the whole `timeout`.
pub(super) async fn send(
    peer: &PeerState,
    connection: &mut dyn Connection,
    update: PeerUpdate,
    since: Instant,
    timeout: Duration,
) -> Result<Ack, RequestError> {
    let ring = update.ring;
    let parts = update::parts(update, peer.config.max_key_bytes).ok_or(RequestError::NotCarried)?;
    // A Go process has no word for it.
    if peer.protocol.protocol() == Protocol::Http && !probe(peer, connection).await? {
        return Err(RequestError::NotCarried);
    }
    // The age of an update that is told late is that of the moment when it leaves: whatever it
    // waits for before is no time in which a newer value may be lost.
    connection.connect_ahead().await?;
    let mut ack = None;
    for mut part in parts {
        if !part.age.is_zero() {
            part.age += since.elapsed();
        }
        let next = send_part(peer, connection, update::body(&part), timeout).await?;
        ack = Some(combine(ack, next, ring));
    }
    Ok(ack.expect("an update has one part at least"))
}

/// The acknowledgement of two parts of an update: with the later stamp, and with the ring that is
/// not ours if either has one.
fn combine(earlier: Option<Ack>, mut later: Ack, ring: u64) -> Ack {
    if let Some(earlier) = earlier.filter(|earlier| earlier.ring != ring) {
        later.ring = earlier.ring;
    }
    later
}

async fn send_part(
    peer: &PeerState,
    connection: &mut dyn Connection,
    body: Bytes,
    max_silence: Duration,
) -> Result<Ack, RequestError> {
    // The caller's timeout bounds the wait for its head.
    let request = Request::post(UPDATE_PATH, body).counted();
    let mut answer = request.send(peer, connection).await;
    if let Err(Failure::Closed(_)) = answer {
        // The connection may have been a stale one. An update that arrives twice is made twice,
        // which makes no difference; the second has a count of its own.
        answer = request.send(peer, connection).await;
    }
    if let Err(Failure::Closed(_)) = answer {
        peer.protocol.observe(Event::NativeClosed);
    }
    match answer?.frames_follow() {
        Ok(()) => {}
        // One of ours that knows no updates.
        Err(Failure::Status(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)) => {
            return Err(RequestError::NotCarried);
        }
        Err(Failure::Status(StatusCode::PAYLOAD_TOO_LARGE)) => {
            return Err(RequestError::Answered(Error::new(ErrorKind::ValueTooLarge)));
        }
        Err(failure) => return Err(failure.into()),
    }
    let ack = read(ResponseBody::new(connection, max_silence)).await?;
    response_body::drain(connection, max_silence, || ()).await;
    Ok(ack)
}

async fn read(mut body: ResponseBody<'_>) -> Result<Ack, RequestError> {
    let mut decoder = Decoder::of_answers(0);
    while let Some(mut piece) = body.next().await? {
        while let Some(frame) = decoder.next(&mut piece).map_err(Failure::garbage)? {
            match frame {
                Frame::Working => {}
                Frame::Ack(ack) => return Ok(ack),
                Frame::Error { index: 0, code, text } => return Err(read_error(code, &text)),
                _ => return Err(Failure::garbage("a frame that acknowledges nothing").into()),
            }
        }
    }
    Err(Failure::garbage("no acknowledgement before the end").into())
}

fn read_error(code: u8, text: &[u8]) -> RequestError {
    match error_codes::kind_of_code(code) {
        Some(kind) => RequestError::Answered(error_codes::error_of(kind, text)),
        None if code == error_codes::UNKNOWN_GROUP => Failure::UnknownGroup(error_codes::text_from(text)).into(),
        None if code == error_codes::IS_SELF => Failure::IsSelf.into(),
        None => Failure::garbage(format!("an error of the unknown code {code}")).into(),
    }
}
