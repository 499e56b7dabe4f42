//! The state that every request to a peer server needs.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::HeaderMap;
use peercache_groupcache::Groups;

use crate::{
    server::permits::Permits,
    server::response_budget::ResponseBudget,
    wire::identity_header::{Identity, OwnIdentity},
};

/// The settings of a [`PeerServer`](crate::PeerServer), and what its requests share.
pub(super) struct ServerState {
    pub(super) groups: Groups,
    pub(super) base_path: String,
    pub(super) max_key_bytes: usize,
    pub(super) max_value_bytes: usize,
    pub(super) body_read_timeout: Duration,
    pub(super) identity: OwnIdentity,
    /// Whether answers show that this node is one of ours.
    pub(super) shows_identity: bool,
    pub(super) budget: Arc<ResponseBudget>,
    pub(super) permits: Permits,
}

impl ServerState {
    /// Whether the request comes from this very node. Its pool logs that when it gets the answer.
    pub(super) fn is_from_self(&self, headers: &HeaderMap) -> bool {
        Identity::read(headers).is_some_and(|identity| self.identity.is(identity))
    }

    /// The answer with this node's identity header.
    pub(super) fn identified(&self, mut answer: Response) -> Response {
        if self.shows_identity {
            let (name, value) = self.identity.header();
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}
