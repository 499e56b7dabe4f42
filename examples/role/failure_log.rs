//! The log of failures that callers cause by asking: one line a second at most.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(1);
/// The shortest time between two equal lines. A database that is away is said once in it, however
/// many callers ask.
const PAUSE_OF_EQUALS: Duration = Duration::from_secs(60);
/// The most lines that are remembered. One more may be said again too soon.
const REMEMBERED_MAX: usize = 16;

/// A log of failures, which leaves out most of many. Clones share it.
#[derive(Clone, Default)]
pub struct FailureLog(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    last: Option<Instant>,
    /// The lines said in the last minute, the oldest first.
    lines: VecDeque<(Instant, String)>,
    left_out: u64,
}

impl FailureLog {
    /// Logs a failure, unless it or too many others were logged a moment ago.
    pub fn warn(&self, failure: &str) {
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(failure);
        match admitted {
            Some(0) => tracing::warn!("{failure}"),
            Some(left_out) => tracing::warn!(left_out, "{failure}"),
            None => {}
        }
    }
}

impl Said {
    /// Whether this failure is to be said now: with the number of those left out before it.
    fn admit(&mut self, failure: &str) -> Option<u64> {
        let now = Instant::now();
        while self.lines.front().is_some_and(|(said, _)| now - *said >= PAUSE_OF_EQUALS) {
            self.lines.pop_front();
        }
        let is_too_soon = self.last.is_some_and(|last| now - last < PAUSE);
        if is_too_soon || self.lines.iter().any(|(_, line)| line == failure) {
            self.left_out += 1;
            return None;
        }
        if self.lines.len() == REMEMBERED_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((now, failure.to_owned()));
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_and_equal_ones_once_a_minute() {
        let mut said = Said::default();
        assert_eq!([said.admit("a"), said.admit("b")], [Some(0), None]);
        advance(PAUSE).await;
        assert_eq!([said.admit("a"), said.admit("b"), said.admit("c")], [None, Some(2), None]);
        advance(PAUSE_OF_EQUALS - PAUSE).await;
        assert_eq!([said.admit("b"), said.admit("a")], [None, Some(2)]);
        advance(PAUSE).await;
        assert_eq!(said.admit("b"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn few_lines_are_remembered() {
        let mut said = Said::default();
        for number in 0..100 {
            assert_eq!(said.admit(&format!("failure {number}")), Some(0));
            advance(PAUSE).await;
        }
        assert_eq!(said.lines.len(), REMEMBERED_MAX);
    }
}
