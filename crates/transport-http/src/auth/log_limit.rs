//! A limit on how often the log says the same of somebody who is not believed, or not answered.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time between two lines about the same.
const BETWEEN: Duration = Duration::from_secs(60);

/// The most different lines of a minute: strangers choose what they are refused for.
const MAX_LINES: usize = 64;

/// Says whether a line is to be logged again.
#[derive(Debug)]
pub(crate) struct LogLimit<K> {
    /// The lines of the last minute, and when each was logged.
    logged: Mutex<Vec<(K, Instant)>>,
}

impl<K: PartialEq> LogLimit<K> {
    /// Whether the line is due: neither it nor too many others have been logged in the last minute.
    pub(crate) fn is_due(&self, line: K) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|(_, last)| now.duration_since(*last) < BETWEEN);
        if logged.len() == MAX_LINES || logged.iter().any(|(known, _)| *known == line) {
            return false;
        }
        logged.push((line, now));
        true
    }
}

impl<K> Default for LogLimit<K> {
    fn default() -> Self {
        LogLimit { logged: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_line_is_logged_once_a_minute() {
        let limit = LogLimit::default();
        assert!(limit.is_due(1) && !limit.is_due(1));
        advance(BETWEEN / 2).await;
        assert!(limit.is_due(2) && !limit.is_due(1));
        advance(BETWEEN / 2).await;
        assert!(limit.is_due(1) && !limit.is_due(1) && !limit.is_due(2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_some_lines_are_logged_in_a_minute() {
        let limit = LogLimit::default();
        assert_eq!((0..1_000).filter(|line| limit.is_due(*line)).count(), MAX_LINES);
        advance(BETWEEN).await;
        assert!(limit.is_due(1_000));
    }
}
