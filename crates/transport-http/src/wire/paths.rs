//! The native paths.

/// The path of a native get.
pub(crate) const GET_PATH: &str = "/_peercache/v1/get";

/// The path of a probe, which asks for a sign of life.
pub(crate) const HEALTH_PATH: &str = "/_peercache/v1/health";

/// The path of an update.
pub(crate) const UPDATE_PATH: &str = "/_peercache/v1/update";
