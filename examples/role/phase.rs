use tokio::sync::watch;

/// What a node is doing, as its operators see it. Clones see the same.
#[derive(Clone)]
pub struct Phases(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all ports answer yet.
    Starting,
    /// Front and peer ports answer.
    Ready,
    /// Told to stop: what is under way is finished, and whoever asks is told to ask elsewhere next time.
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
