//! The values of one batch that are held ready for a reader who has not asked for them yet.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::server::response_budget::ResponseBudget;

/// The most bytes of values that one batch holds ready. The rest is fetched from the group when it
/// can be sent: a thousand values may be a thousand times as much as one.
pub(super) const MAX_READY_BYTES: usize = 32 * 1024;

/// The longest value, in bytes, that counts as small: fetching it twice costs more than holding it.
const SMALL_VALUE_BYTES: usize = 2 * 1024;

/// The most bytes that are held ready as long as values are small and the budget allows it.
const MAX_SMALL_READY_BYTES: usize = 128 * 1024;

/// Decides which values of one batch are held ready.
pub(super) struct ReadyValues {
    budget: Arc<ResponseBudget>,
    bytes: usize,
    /// Taken for what is beyond [`MAX_READY_BYTES`]; kept until the batch is answered.
    reserved: Option<OwnedSemaphorePermit>,
}

impl ReadyValues {
    pub(super) fn new(budget: Arc<ResponseBudget>) -> Self {
        ReadyValues { budget, bytes: 0, reserved: None }
    }

    /// Whether one more value, of this many bytes, is held ready.
    pub(super) fn admit(&mut self, value_bytes: usize) -> bool {
        self.bytes += value_bytes;
        self.bytes <= MAX_READY_BYTES
            || (value_bytes <= SMALL_VALUE_BYTES && self.bytes <= MAX_SMALL_READY_BYTES && self.reserve())
    }

    fn reserve(&mut self) -> bool {
        if self.reserved.is_none() {
            self.reserved = self.budget.try_reserve(MAX_SMALL_READY_BYTES - MAX_READY_BYTES);
        }
        self.reserved.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of values of this size that are held ready.
    fn admitted(budget_bytes: usize, value_bytes: usize) -> usize {
        let mut ready = ReadyValues::new(Arc::new(ResponseBudget::new(budget_bytes)));
        (0..1_000).filter(|_| ready.admit(value_bytes)).count()
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
}
