//! The state that every request to a peer server needs.

use std::{sync::Arc, time::Duration};

use peercache_groupcache::Groups;

use crate::server::{access::Access, permits::Permits, response_budget::ResponseBudget};

/// The settings of a [`PeerServer`](crate::PeerServer), and what its requests share.
pub(super) struct ServerState {
    pub(super) groups: Groups,
    pub(super) base_path: String,
    pub(super) max_key_bytes: usize,
    pub(super) max_value_bytes: usize,
    pub(super) body_read_timeout: Duration,
    pub(super) access: Access,
    pub(super) budget: Arc<ResponseBudget>,
    pub(super) permits: Permits,
}
