//! A probe: a request that tells whether a peer is one of ours, and makes it do nothing.

use tokio::time::timeout;

use crate::{
    client::connection::Connection,
    client::failure::Failure,
    client::peer_state::PeerState,
    client::{request, response_body},
    wire::identity_header::Identity,
};

/// Whether the peer is one of ours. The probe is a GET of a path without a key: every server under
/// the base path refuses it, ours and Go's, and none of them loads.
pub(super) async fn probe(peer: &PeerState, connection: &mut dyn Connection) -> Result<bool, Failure> {
    match probe_once(peer, connection).await {
        // The connection may have been a stale one.
        Err(Failure::Closed(_)) if connection.was_reused() => probe_once(peer, connection).await,
        probed => probed,
    }
}

async fn probe_once(peer: &PeerState, connection: &mut dyn Connection) -> Result<bool, Failure> {
    // There is no load for it, so the head has no reason to be late.
    let max_silence = peer.config.peer_timeout;
    let request = request::get(&peer.config, &peer.config.base_path)?;
    let head = timeout(max_silence, connection.send(request)).await;
    let head = head.map_err(|_| Failure::Silent(max_silence))??;
    let identity = Identity::read(&head.headers);
    peer.observe_identity(identity)?;
    response_body::drain(connection, max_silence, || ()).await;
    Ok(identity.is_some())
}
