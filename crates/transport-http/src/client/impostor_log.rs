//! A limit on how often the log says that a peer is not believed.

use std::{
    mem::{Discriminant, discriminant},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::auth::credentials::Impostor;

/// The time between two lines about one peer and one reason.
const BETWEEN: Duration = Duration::from_secs(60);

/// Says for one peer whether a reason not to believe it is to be logged again.
#[derive(Debug, Default)]
pub(super) struct ImpostorLog {
    /// The time at which each reason was logged last; there are few.
    logged: Mutex<Vec<(Discriminant<Impostor>, Instant)>>,
}

impl ImpostorLog {
    pub(super) fn is_due(&self, impostor: &Impostor) -> bool {
        let (reason, now) = (discriminant(impostor), Instant::now());
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        match logged.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, last)) if now.duration_since(*last) < BETWEEN => return false,
            Some((_, last)) => *last = now,
            None => logged.push((reason, now)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_reason_is_logged_once_a_minute() {
        let log = ImpostorLog::default();
        let other = |name: &str| Impostor::OtherMember(name.into());
        assert!(log.is_due(&Impostor::Stranger) && !log.is_due(&Impostor::Stranger));
        assert!(log.is_due(&other("a")) && !log.is_due(&other("b")));
        advance(BETWEEN).await;
        assert!(log.is_due(&Impostor::Stranger) && !log.is_due(&Impostor::Stranger));
    }
}
