//! Authentication of members: shared secrets, what they sign, and what keeps a recorded request
//! from being used again.
//!
//! A request is signed by itself, not by its connection: it passes proxies, and a router that is
//! merged into somebody's application knows no connection. The pattern is that of HTTP Digest (RFC
//! 7616): the server hands out a nonce, the asker counts its requests, and the answer proves that
//! the server knows the secret too. No clock is read.

pub(crate) mod credentials;
pub(crate) mod gate;
pub(crate) mod keyring;
pub(crate) mod log_limit;
pub(crate) mod nonces;
pub(crate) mod reload;
pub(crate) mod replay;
pub(crate) mod secrets;
pub(crate) mod trust_stats;
