//! The state that every request to a peer server needs.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use peercache_groupcache::Groups;

use crate::server::{access::Access, arriving_bytes::ArrivingBytes, permits::Permits, response_budget::ResponseBudget};

/// The settings of a [`PeerServer`](crate::PeerServer), and what its requests share.
pub(super) struct ServerState {
    pub(super) groups: Groups,
    pub(super) base_path: String,
    pub(super) max_key_bytes: usize,
    pub(super) max_value_bytes: Option<usize>,
    pub(super) body_read_timeout: Duration,
    pub(super) access: Access,
    pub(super) budget: ResponseBudget,
    pub(super) permits: Permits,
    pub(super) arriving: ArrivingBytes,
}

/// The largest limit for the longest value. Much longer ones have no place in a frame.
const VALUE_BYTES_LIMIT: usize = u32::MAX as usize >> 1;

impl ServerState {
    /// The budget of values to the reader on the connection of this request.
    pub(super) fn budget_for(&self, head: &Parts) -> Arc<ResponseBudget> {
        self.budget.of(head.extensions.get().cloned())
    }

    /// The longest value that a peer may set: as it was told, or as its groups take it.
    pub(super) fn max_value_bytes(&self) -> usize {
        self.max_value_bytes.unwrap_or_else(|| self.groups.max_value_bytes()).min(VALUE_BYTES_LIMIT)
    }
}
