//! A probe: a request that tells, in a Go dialect, whether a peer is one of ours, and makes it do
//! nothing.

use http::StatusCode;

use crate::{
    auth::credentials::Impostor,
    client::connection::Connection,
    client::failure::Failure,
    client::get_http::is_go_error,
    client::peer_state::PeerState,
    client::request::Request,
    client::response_body::{self, ResponseBody},
};

/// The refusal of golang's server, for a path without a key.
const GO_REFUSAL: &[u8] = b"bad request\n";

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
