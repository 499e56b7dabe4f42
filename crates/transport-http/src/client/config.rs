//! The configuration of a pool, which all of its peers share.

use std::time::Duration;

use crate::{client::connection::Connector, dialect::Dialect, wire::identity_header::OwnIdentity};

/// The settings of a pool, checked by its builder, and this node's identity.
pub(super) struct PoolConfig {
    pub(super) base_path: String,
    pub(super) dialect: Dialect,
    pub(super) plain_gets: bool,
    pub(super) peer_timeout: Duration,
    pub(super) max_connections: usize,
    pub(super) max_fetches: usize,
    pub(super) max_key_bytes: usize,
    pub(super) identity: OwnIdentity,
    pub(super) connector: Box<dyn Connector>,
}
