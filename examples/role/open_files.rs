/// Every listener may have its 1,024 connections, and as many again may be open to peers and to the origin.
#[cfg(unix)]
const OPEN_FILES: u64 = 8 * 1_024;

/// Lets this process have as many connections as its limits allow for. Many systems start a process with 1,024 open files
/// for everything, of which callers of the front could take the last, and operators would find the door shut.
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

/// Other systems have no such limit.
#[cfg(not(unix))]
pub fn raise_limit() {}
