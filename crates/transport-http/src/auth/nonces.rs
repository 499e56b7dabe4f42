//! The number that a server hands out, so that a signed request is good for this process and for a
//! while.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time for which a nonce is handed out. It is taken for as long again.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

/// The nonces of one server.
pub(crate) struct Nonces {
    state: Mutex<State>,
}

struct State {
    current: u128,
    since: Instant,
    /// The one before, until the next change.
    previous: Option<u128>,
}

impl Nonces {
    /// A first nonce.
    pub(crate) fn new(now: Instant) -> Self {
        Nonces { state: Mutex::new(State { current: random(), since: now, previous: None }) }
    }

    /// The nonce to hand out now.
    pub(crate) fn current(&self, now: Instant) -> u128 {
        self.with(now, |state| state.current)
    }

    /// Whether a request may be signed with `nonce`: the current one or the one before it.
    pub(crate) fn takes(&self, nonce: u128, now: Instant) -> bool {
        self.with(now, |state| nonce == state.current || Some(nonce) == state.previous)
    }

    /// Ends all nonces that were handed out.
    pub(crate) fn renew(&self, now: Instant) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            State { current: random(), since: now, previous: None };
    }

    fn with<T>(&self, now: Instant, read: impl FnOnce(&State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(state.since);
        if age >= LIFETIME {
            // Nobody was here when the current one should have changed twice: both are over.
            state.previous = (age < 2 * LIFETIME).then_some(state.current);
            state.since = if age < 2 * LIFETIME { state.since + LIFETIME } else { now };
            state.current = random();
        }
        read(&state)
    }
}

/// 128 random bits of the operating system.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    u128::from_be_bytes(bytes)
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_handed_out_for_ten_minutes_and_taken_for_twenty() {
        let start = Instant::now();
        let nonces = Nonces::new(start);
        let first = nonces.current(start);
        let just_before = start + LIFETIME - Duration::from_millis(1);
        assert_eq!(nonces.current(just_before), first);
        let changed = start + LIFETIME;
        let second = nonces.current(changed);
        assert_ne!(second, first);
        assert!(nonces.takes(first, changed) && nonces.takes(second, changed));
        let changed_again = changed + LIFETIME;
        assert!(!nonces.takes(first, changed_again) && nonces.takes(second, changed_again));
    }

    #[test]
    fn after_a_long_silence_both_are_over() {
        let start = Instant::now();
        let nonces = Nonces::new(start);
        let first = nonces.current(start);
        assert!(!nonces.takes(first, start + 2 * LIFETIME));
    }

    #[test]
    fn every_server_has_another() {
        let now = Instant::now();
        assert_ne!(Nonces::new(now).current(now), Nonces::new(now).current(now));
    }
}
