//! The limit of open files, as errors tell of it.

use std::io;

/// Whether an error says that this process, or the system, can open no more files.
pub(crate) fn is_limit(error: &io::Error) -> bool {
    /// `ENFILE` and `EMFILE`, which are the same on all systems of the Unix kind.
    const NO_MORE_FILES: [i32; 2] = [23, 24];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| NO_MORE_FILES.contains(&code))
}
