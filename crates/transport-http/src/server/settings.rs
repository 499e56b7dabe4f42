//! The settings of a [`Server`](crate::Server).

use std::time::Duration;

/// The longest time that a setting takes: a year. The clock does not count for ever, and adding
/// more to it may panic.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerSettings {
    pub(super) max_connections: usize,
    pub(super) header_read_timeout: Duration,
    /// The time between two requests; as long as a head has where it is not set.
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_head_bytes: usize,
    pub(super) body_read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) drain_timeout: Duration,
    /// The time after which a connection over TLS takes no further request: certificates are
    /// checked at its beginning.
    pub(super) tls_lifetime: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            max_connections: 1_024,
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_head_bytes: 16 * 1024,
            body_read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(25),
            tls_lifetime: Duration::from_secs(60 * 60),
        }
    }
}
