//! The head of an answer on a native path: whether frames follow it.

use http::StatusCode;

use crate::{client::failure::Failure, client::peer_state::PeerState, wire::identity_header::Identity};

/// Checks that frames follow. Success without an identity header is what a foreign server answers
/// to any path.
pub(super) fn check_native(peer: &PeerState, head: &http::response::Parts) -> Result<(), Failure> {
    let identity = Identity::read(&head.headers);
    match head.status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            return Err(Failure::PathUnknown(head.status));
        }
        status if status.is_success() && identity.is_none() => return Err(Failure::PathUnknown(status)),
        _ => {}
    }
    if identity.is_some() {
        peer.observe_identity(identity)?;
    }
    match head.status {
        StatusCode::OK => Ok(()),
        StatusCode::MISDIRECTED_REQUEST if identity.is_some() => Err(Failure::IsSelf),
        status => Err(Failure::Status(status)),
    }
}
