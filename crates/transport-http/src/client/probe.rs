//! Probes: requests that make a peer do nothing. One tells whether it is there, the other, in a Go
//! dialect, whether it is one of ours.

use std::time::Duration;

use bytes::Bytes;

use http::StatusCode;
use peercache_groupcache::PeerError;
use tokio::time::timeout;

use crate::{
    auth::credentials::Impostor,
    client::connection::Connection,
    client::failure::Failure,
    client::get_http::is_go_error,
    client::peer_state::PeerState,
    client::protocol_state::Protocol,
    client::request::Request,
    client::response_body::{self, ResponseBody},
    wire::paths::HEALTH_PATH,
};

/// The refusal of golang's server, for a path without a key.
const GO_REFUSAL: &[u8] = b"bad request\n";

/// Asks the peer for a sign of life, on a connection of its own: those that there are may be stuck.
///
/// # Errors
/// The reason why there was none.
pub(super) async fn probe_health(peer: &PeerState, within: Duration) -> Result<(), PeerError> {
    let mut connection = peer.config.connector.connection(&peer.address);
    let asked = async {
        if peer.protocol.protocol() == Protocol::Http {
            return probe(peer, &mut *connection).await.map(drop);
        }
        let answer = Request::post(HEALTH_PATH, Bytes::new()).send(peer, &mut *connection).await?;
        // Whatever it says: a member that does not know the path says so.
        answer.believed().map(drop)
    };
    match timeout(within, asked).await {
        Ok(answered) => answered.map_err(|failure| peer.failed(failure)),
        Err(_) => Err(peer.failed(Failure::Silent(within))),
    }
}

/// Whether the peer is one of ours; `false` for a Go process.
///
/// The probe is a GET of a path without a key: every server under the base path refuses it, ours
/// and Go's, and none of them loads.
///
/// # Errors
/// An answer of neither.
pub(super) async fn probe(peer: &PeerState, connection: &mut dyn Connection) -> Result<bool, Failure> {
    // There is no load for it, so the head has no reason to be late.
    let max_silence = peer.config.peer_timeout;
    let request = Request::get(&peer.config.base_path)?.max_silence(max_silence);
    let mut answer = request.send(peer, connection).await;
    if matches!(answer, Err(Failure::Closed(_))) && connection.was_reused() {
        // The connection may have been a stale one.
        answer = request.send(peer, connection).await;
    }
    let answer = answer?;
    if answer.may_be_go() && answer.head.status == StatusCode::BAD_REQUEST && is_go_error(&answer.head) {
        let text = ResponseBody::new(connection, max_silence).collect(GO_REFUSAL.len()).await?;
        return if text == GO_REFUSAL { Ok(false) } else { Err(Impostor::Stranger.into()) };
    }
    answer.believed()?;
    response_body::drain(connection, max_silence, || ()).await;
    Ok(true)
}
