//! Exchanges that wait long for loads, and which of them end so that their keys wait together.
//!
//! An origin that hangs holds each exchange for as long as a load may take. When a group has many
//! such exchanges with a peer, the smallest of them are recalled: each gives its keys back and
//! closes its connection. Once all have, the keys are asked for again, together. The loads at the
//! peer go on meanwhile, and the new exchange waits for them.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::client::pending::{Bounds, Pending};

/// The time after which an exchange counts as one that waits long. A load in its ordinary time ends
/// before that, and its connection is kept.
pub(super) const MERGE_AFTER: Duration = Duration::from_secs(1);

/// The exchanges of one group with a peer that wait long and can be merged. With one more, half of
/// them are. A peer has 1,024 connections for all who ask.
const MAX_LONG: usize = 16;

/// Tells a worker that its exchange is recalled.
#[derive(Default)]
pub(super) struct Recall {
    exchange: AtomicU64,
    notify: Notify,
}

/// An exchange that waits long for loads.
pub(super) struct LongExchange {
    pub(super) id: u64,
    /// The keys that wait.
    pub(super) keys: usize,
    pub(super) bounds: Bounds,
    pub(super) recall: Arc<Recall>,
}

/// The exchanges of one group that wait long.
#[derive(Default)]
pub(super) struct LongExchanges {
    waiting: Vec<LongExchange>,
    /// The recalled exchanges that have not ended yet.
    recalled: usize,
    given_back: Vec<Pending>,
}

impl Recall {
    /// Waits until this exchange is recalled. A call that comes late, for one before it, is passed
    /// over.
    pub(super) async fn of(&self, exchange: u64) {
        while self.exchange.load(Relaxed) != exchange {
            self.notify.notified().await;
        }
    }
}

impl LongExchange {
    /// Recalls the exchange; not to be called under a lock, since it wakes the worker.
    pub(super) fn recall(self) {
        self.recall.exchange.store(self.id, Relaxed);
        self.recall.notify.notify_one();
    }
}

impl LongExchanges {
    /// Adds an exchange. Returns those that are to be recalled.
    pub(super) fn add(&mut self, exchange: LongExchange) -> Vec<LongExchange> {
        let bounds = exchange.bounds;
        self.waiting.push(exchange);
        // Keys within other bounds cannot share its exchange.
        let alike = |exchange: &LongExchange| exchange.bounds == bounds;
        if self.waiting.iter().filter(|exchange| alike(exchange)).count() <= MAX_LONG {
            return Vec::new();
        }
        self.waiting.sort_by_key(|exchange| (!alike(exchange), exchange.keys));
        let recalled: Vec<_> = self.waiting.drain(..=MAX_LONG / 2).collect();
        self.recalled += recalled.len();
        recalled
    }

    /// Removes an exchange that has ended, with the keys that it gives back because it was
    /// recalled. Returns the keys that are to be asked for together now.
    pub(super) fn end(&mut self, id: u64, given_back: Vec<Pending>) -> Vec<Pending> {
        if let Some(place) = self.waiting.iter().position(|exchange| exchange.id == id) {
            self.waiting.swap_remove(place);
            return given_back;
        }
        self.recalled -= 1;
        self.given_back.extend(given_back);
        if self.recalled == 0 { mem::take(&mut self.given_back) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(id: u64, keys: usize, seconds: u64) -> LongExchange {
        LongExchange { id, keys, bounds: (Duration::from_secs(seconds), 0), recall: Arc::default() }
    }

    fn ids(recalled: &[LongExchange]) -> Vec<u64> {
        recalled.iter().map(|exchange| exchange.id).collect()
    }

    #[test]
    fn the_smaller_half_is_recalled_when_there_is_one_too_many() {
        let mut long = LongExchanges::default();
        for id in 0..16 {
            assert!(long.add(exchange(id, 16 - id as usize, 1)).is_empty());
        }
        assert_eq!(ids(&long.add(exchange(16, 100, 1))), [15, 14, 13, 12, 11, 10, 9, 8, 7]);
        assert_eq!(long.waiting.len(), 8);
    }

    #[test]
    fn only_what_can_share_an_exchange_is_merged() {
        let mut long = LongExchanges::default();
        for id in 0..32 {
            assert!(long.add(exchange(id, 1, id % 2)).is_empty());
        }
        let recalled = long.add(exchange(32, 1, 0));
        assert!(recalled.len() == 9 && recalled.iter().all(|exchange| exchange.id % 2 == 0));
    }

    #[test]
    fn an_exchange_that_ends_by_itself_is_forgotten() {
        let mut long = LongExchanges::default();
        long.add(exchange(1, 1, 1));
        assert!(long.end(1, Vec::new()).is_empty() && long.waiting.is_empty());
    }

    #[tokio::test]
    async fn a_recall_of_the_exchange_before_is_passed_over() {
        let recall = Arc::<Recall>::default();
        let of = |id| LongExchange { id, keys: 1, bounds: (Duration::ZERO, 0), recall: recall.clone() };
        of(1).recall();
        let mut second = std::pin::pin!(recall.of(2));
        for _ in 0..2 {
            let is_pending = std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx).is_pending()));
            assert!(is_pending.await);
        }
        of(2).recall();
        second.await;
    }
}
