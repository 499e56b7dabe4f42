//! The configuration of a pool, which all of its peers share.

use std::{sync::Arc, time::Duration};

use crate::{
    auth::credentials::Credentials, client::connection::Connector, client::open_files::OpenFiles, dialect::Dialect,
    membership::Membership,
};

/// The settings of a pool, checked by its builder, and who this node is.
pub(super) struct PoolConfig {
    pub(super) base_path: String,
    pub(super) dialect: Dialect,
    pub(super) peer_timeout: Duration,
    pub(super) max_connections: usize,
    pub(super) max_fetches: usize,
    pub(super) max_key_bytes: usize,
    pub(super) membership: Membership,
    /// The credentials that requests show of this node.
    pub(super) credentials: Credentials,
    /// Whether the HTTP client is one of the user's own.
    pub(super) own_client: bool,
    pub(super) connector: Box<dyn Connector>,
    pub(super) open_files: Arc<OpenFiles>,
}
