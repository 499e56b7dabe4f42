//! The values of one batch that are held ready for a reader who has not asked for them yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_groupcache::HoldLimit;
use tokio::sync::OwnedSemaphorePermit;

use crate::server::response_budget::{Landed, ResponseBudget};

/// The most bytes of values that one batch holds ready without budget. For the rest the group is
/// asked again when it can be sent: a thousand values may be a thousand times as much as one.
pub(super) const MAX_READY_BYTES: usize = 32 * 1024;

/// The longest value, in bytes, that counts as small. To ask the group for it again costs more than
/// to hold it.
const SMALL_VALUE_BYTES: usize = 2 * 1024;

/// The most bytes that are held ready as long as values are small and the budget allows it.
const MAX_SMALL_READY_BYTES: usize = 128 * 1024;

/// Decides which values of one batch are held ready, before they are encoded and after.
///
/// A group knows the weight of a value before it is encoded. The encoding may be longer, and some
/// answers are ready without a question, so that the bytes that are held are counted as well.
pub(super) struct ReadyValues {
    budget: Arc<ResponseBudget>,
    /// The weights of all values that the group has asked about.
    weights: usize,
    /// The bytes of the answers that are held.
    held_bytes: usize,
    /// The share of the budget for what is beyond [`MAX_READY_BYTES`], kept until the batch is
    /// answered.
    reserved: Option<OwnedSemaphorePermit>,
}

impl ReadyValues {
    pub(super) fn new(budget: Arc<ResponseBudget>) -> Self {
        ReadyValues { budget, weights: 0, held_bytes: 0, reserved: None }
    }

    /// Whether the group is to encode one more value now, of this weight.
    pub(super) fn admit(&mut self, weight: usize) -> bool {
        self.weights = self.weights.saturating_add(weight);
        self.fits(self.weights, weight)
    }

    /// Whether one more answer, of this many bytes, is held.
    pub(super) fn hold(&mut self, value_bytes: usize) -> bool {
        let held_bytes = self.held_bytes + value_bytes;
        let is_held = self.fits(held_bytes, value_bytes);
        if is_held {
            self.held_bytes = held_bytes;
        }
        is_held
    }

    fn fits(&mut self, sum: usize, value_bytes: usize) -> bool {
        sum <= MAX_READY_BYTES || (value_bytes <= SMALL_VALUE_BYTES && sum <= MAX_SMALL_READY_BYTES && self.reserve())
    }

    fn reserve(&mut self) -> bool {
        if self.reserved.is_none() {
            self.reserved = self.budget.try_reserve(MAX_SMALL_READY_BYTES - MAX_READY_BYTES);
        }
        self.reserved.is_some()
    }
}

/// The limit that a group is told: that of [`ReadyValues`] for what is cached. What has been loaded
/// shares a budget with all other batches until it is sent.
pub(super) struct BatchLimit {
    ready: Mutex<ReadyValues>,
    landed: Landed,
}

impl BatchLimit {
    pub(super) fn new(budget: Arc<ResponseBudget>) -> Self {
        BatchLimit { landed: budget.landed(), ready: Mutex::new(ReadyValues::new(budget)) }
    }

    /// Whether one more answer, of this many bytes, is held.
    pub(super) fn holds(&self, value_bytes: usize) -> bool {
        self.ready().hold(value_bytes)
    }

    fn ready(&self) -> MutexGuard<'_, ReadyValues> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HoldLimit for BatchLimit {
    fn admits(&self, bytes: usize) -> bool {
        self.ready().admit(bytes)
    }

    fn take_room(&self, bytes: usize) -> Option<Box<dyn Send + Sync>> {
        Some(Box::new(self.landed.try_take(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of values of this size that are held ready, as the group is told and as counted
    /// afterwards.
    fn admitted(budget_bytes: usize, value_bytes: usize) -> usize {
        let ready = || ReadyValues::new(Arc::new(ResponseBudget::new(budget_bytes)));
        let (mut before, mut after) = (ready(), ready());
        let admitted = (0..1_000).filter(|_| before.admit(value_bytes)).count();
        assert_eq!((0..1_000).filter(|_| after.hold(value_bytes)).count(), admitted);
        admitted
    }

    #[test]
    fn many_small_values_and_few_large_ones_are_held() {
        assert_eq!(admitted(1 << 20, 1_024), 128);
        assert_eq!(admitted(1 << 20, 4_096), 8);
        assert_eq!(admitted(1 << 20, MAX_READY_BYTES + 1), 0);
    }

    #[test]
    fn without_budget_few_small_values_are_held() {
        assert_eq!(admitted(1_000, 1_024), 32);
    }

    #[test]
    fn loaded_values_of_all_batches_share_a_budget() {
        let budget = Arc::new(ResponseBudget::new(1 << 20));
        let limits = [0, 1].map(|_| BatchLimit::new(budget.clone()));
        let mut held: Vec<_> = (0..).map_while(|nth| limits[nth % 2].take_room(1 << 20)).collect();
        assert_eq!(held.len(), 8);
        assert!(limits[0].take_room(1).is_none());
        held.clear();
        let alone = limits[0].take_room(1 << 30).expect("a longer value goes alone");
        assert!(limits[1].take_room(1).is_none());
        drop(alone);
        assert!(limits[1].take_room(1).is_some());
    }
}
