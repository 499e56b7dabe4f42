//! The limit of open files, which bounds the connections.

/// The open files that a node needs: 1,024 connections for each listener, and as many again to
/// peers and to the origin.
#[cfg(unix)]
const OPEN_FILES: u64 = 8 * 1_024;

/// Raises the limit of open files, so that connections are bounded by the listeners' own limits.
///
/// Many systems start a process with 1,024 open files. Callers of the front could take them all,
/// and operators could no longer connect.
#[cfg(unix)]
pub fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// Does nothing, since other systems have no such limit.
#[cfg(not(unix))]
pub fn raise_limit() {}
