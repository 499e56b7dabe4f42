//! The protocol in which a peer is asked: one state machine, with all of its transitions.
//!
//! ```text
//! dialect:               native     a Go dialect
//! state:                 -          Unknown        Ours
//! asked:                 natively   in the dialect natively
//! after Identified       -          Ours           Ours
//! after NotIdentified    -          Unknown        Unknown
//! after NativeClosed     -          Unknown        Unknown
//! ```
//!
//! A native node asks natively, whatever answers: one that is not of its members has failed. In a
//! Go dialect a peer that stops being one of ours fails once, and is asked in the dialect again.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::dialect::Dialect;

/// The protocol of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Native,
    /// golang/groupcache's GET.
    Http,
}

/// An observation that may change how a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An answer was one of the member that was asked, and that is one of ours.
    Identified,
    /// An answer was not.
    NotIdentified,
    /// The peer closed a new connection on a native path, as golang's server does on paths that are
    /// not its own.
    NativeClosed,
}

/// The state of one peer, from what was observed of it.
pub(super) struct ProtocolState {
    dialect: Dialect,
    /// Whether the last answer was of one of ours.
    is_ours: AtomicBool,
}

impl ProtocolState {
    pub(super) fn new(dialect: Dialect) -> Self {
        ProtocolState { dialect, is_ours: AtomicBool::new(false) }
    }

    /// Records an observation.
    pub(super) fn observe(&self, event: Event) {
        let is_ours = event == Event::Identified;
        // Each answer says it, and the cache line is shared by all requests.
        if self.is_ours.load(Relaxed) != is_ours {
            self.is_ours.store(is_ours, Relaxed);
        }
    }

    /// The protocol in which the peer is asked now.
    pub(super) fn protocol(&self) -> Protocol {
        match self.dialect {
            Dialect::Native => Protocol::Native,
            Dialect::Golang if self.is_ours.load(Relaxed) => Protocol::Native,
            Dialect::Golang => Protocol::Http,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_in_every_state() {
        use Event::{Identified, NativeClosed, NotIdentified};
        use Protocol::{Http, Native};
        for (dialect, is_ours, before, events) in [
            (Dialect::Native, false, Native, [(Identified, Native), (NotIdentified, Native), (NativeClosed, Native)]),
            (Dialect::Native, true, Native, [(Identified, Native), (NotIdentified, Native), (NativeClosed, Native)]),
            (Dialect::Golang, false, Http, [(Identified, Native), (NotIdentified, Http), (NativeClosed, Http)]),
            (Dialect::Golang, true, Native, [(Identified, Native), (NotIdentified, Http), (NativeClosed, Http)]),
        ] {
            for (event, after) in events {
                let state = ProtocolState { dialect, is_ours: AtomicBool::new(is_ours) };
                assert_eq!(state.protocol(), before, "{dialect:?} {is_ours}");
                state.observe(event);
                assert_eq!(state.protocol(), after, "{event:?} in {dialect:?} {is_ours}");
            }
        }
    }
}
