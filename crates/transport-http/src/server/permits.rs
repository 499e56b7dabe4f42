//! The permits of batches: they bound the keys that are answered at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The keys of batches that are answered at once; a longer key counts as one for each
/// [`KEY_BYTES`], and one more. They need some 15 MB then. Further batches are answered as
/// overload.
const MAX_KEYS: usize = 16 * 1024;

/// The length of a key, in bytes, from which it counts as more than one.
const KEY_BYTES: usize = 64;

/// The permits of one peer server.
pub(super) struct Permits {
    keys: Arc<Semaphore>,
}

impl Permits {
    pub(super) fn new() -> Self {
        Permits { keys: Arc::new(Semaphore::new(MAX_KEYS)) }
    }

    /// The permit of the keys of a batch, given by their lengths; to be held until they are
    /// answered. `None` when too many are asked for.
    pub(super) fn keys(&self, lengths: impl Iterator<Item = usize>) -> Option<OwnedSemaphorePermit> {
        let keys: usize = lengths.map(|length| 1 + length / KEY_BYTES).sum();
        self.keys.clone().try_acquire_many_owned(u32::try_from(keys).ok()?).ok()
    }
}
