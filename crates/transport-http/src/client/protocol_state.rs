//! The protocol in which a peer is asked: one state machine, with all of its transitions.
//!
//! ```text
//! after:                 Identified   NotIdentified   NativeUnsupported   NativeClosed
//! Unknown                Native       Unknown         HttpUntil(+30 s)    HttpUntil(+30 s)
//! Native                 Native       Unknown         HttpUntil(+30 s)    Native
//! HttpUntil, running     unchanged    unchanged       HttpUntil(+30 s)    unchanged
//! HttpUntil, over        Native       Unknown         HttpUntil(+30 s)    unchanged
//! ```

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{client::config::PoolConfig, dialect::Dialect};

/// The time for which a peer that does not know the native protocol is asked with GETs before it is
/// tried again. It may have been replaced by a newer node meanwhile, and trying costs one short
/// round trip.
const HTTP_FOR: Duration = Duration::from_secs(30);

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
    /// An answer had the identity header of one of our nodes.
    Identified,
    /// An answer had no such header.
    NotIdentified,
    /// The peer does not know the native path: its answer said so, or it closed the connection
    /// there and a probe found no identity.
    NativeUnsupported,
    /// The peer closed the connection on the native path, and then answered a GET.
    NativeClosed,
}

/// The state of one peer, from what was observed of it.
pub(super) struct ProtocolState {
    /// The protocol for a peer of which nothing is known.
    preferred: Protocol,
    /// Whether peers are asked with GETs only, as the pool's settings may say.
    http_only: bool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is known, or the peer is no longer one of ours.
    Unknown,
    /// The last answer had an identity header.
    Native,
    /// The peer does not know the native protocol; it is tried again at this time.
    HttpUntil(Instant),
}

impl State {
    fn after(self, event: Event, now: Instant) -> State {
        match (self, event) {
            (_, Event::NativeUnsupported) | (State::Unknown, Event::NativeClosed) => State::HttpUntil(now + HTTP_FOR),
            // The answer to the GET was observed before, and decided already.
            (_, Event::NativeClosed) => self,
            // A peer that identifies itself but refused the native path is not asked twice each
            // time.
            (State::HttpUntil(end), _) if now < end => self,
            (_, Event::Identified) => State::Native,
            (_, Event::NotIdentified) => State::Unknown,
        }
    }
}

impl ProtocolState {
    pub(super) fn new(config: &PoolConfig) -> Self {
        let preferred = match config.dialect {
            Dialect::Native => Protocol::Native,
            Dialect::Golang => Protocol::Http,
        };
        ProtocolState { preferred, http_only: config.plain_gets, state: Mutex::new(State::Unknown) }
    }

    /// Records an observation.
    pub(super) fn observe(&self, event: Event) {
        let mut state = self.state();
        *state = state.after(event, Instant::now());
    }

    /// The protocol in which the peer is asked now.
    pub(super) fn protocol(&self) -> Protocol {
        match *self.state() {
            _ if self.http_only => Protocol::Http,
            State::Native => Protocol::Native,
            State::HttpUntil(end) if Instant::now() < end => Protocol::Http,
            State::HttpUntil(_) | State::Unknown => self.preferred,
        }
    }

    /// Whether the peer's last answer said that it is one of ours.
    pub(super) fn is_ours(&self) -> bool {
        *self.state() == State::Native
    }

    /// Whether it has to be found out if the peer knows native paths, before anything that has no
    /// other form is sent there.
    pub(super) fn needs_probe(&self) -> bool {
        !self.is_ours() && self.protocol() == Protocol::Http
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_event_in_every_state() {
        use Event::{Identified, NativeClosed, NativeUnsupported, NotIdentified};
        use State::{HttpUntil, Native, Unknown};
        let start = Instant::now();
        let now = start + Duration::from_secs(5);
        let (active, over, again) =
            (HttpUntil(now + Duration::from_secs(1)), HttpUntil(start), HttpUntil(now + HTTP_FOR));
        let table = [
            (
                Unknown,
                [(Identified, Native), (NotIdentified, Unknown), (NativeUnsupported, again), (NativeClosed, again)],
            ),
            (
                Native,
                [(Identified, Native), (NotIdentified, Unknown), (NativeUnsupported, again), (NativeClosed, Native)],
            ),
            (
                active,
                [(Identified, active), (NotIdentified, active), (NativeUnsupported, again), (NativeClosed, active)],
            ),
            (over, [(Identified, Native), (NotIdentified, Unknown), (NativeUnsupported, again), (NativeClosed, over)]),
        ];
        for (before, events) in table {
            for (event, after) in events {
                assert_eq!(before.after(event, now), after, "{event:?} in {before:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_state_has_its_protocol() {
        use Protocol::{Http, Native};
        let now = Instant::now();
        let states = [State::Unknown, State::Native, State::HttpUntil(now + HTTP_FOR), State::HttpUntil(now)];
        for (preferred, http_only, protocols, probes) in [
            (Native, false, [Native, Native, Http, Native], [false, false, true, false]),
            (Http, false, [Http, Native, Http, Http], [true, false, true, true]),
            (Native, true, [Http; 4], [true, false, true, true]),
        ] {
            let states = states.map(|state| ProtocolState { preferred, http_only, state: Mutex::new(state) });
            let case = format!("{preferred:?}, {http_only}");
            assert_eq!(states.each_ref().map(ProtocolState::protocol), protocols, "{case}");
            assert_eq!(states.each_ref().map(ProtocolState::needs_probe), probes, "{case}");
        }
    }
}
