//! The phases of a node: starting, ready, draining.

use tokio::sync::watch;

/// The phase of a node, as its operators see it. Clones share it.
#[derive(Clone)]
pub struct Phases(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all ports answer yet.
    Starting,
    /// Front and peer ports answer.
    Ready,
    /// The service was told to stop: requests in progress are finished, and callers are told to ask
    /// elsewhere next time.
    Draining,
}

impl Phases {
    pub fn new() -> Self {
        Phases(watch::Sender::new(Phase::Starting))
    }

    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    pub fn enter(&self, phase: Phase) {
        tracing::info!(?phase, "entered");
        self.0.send_replace(phase);
    }
}
