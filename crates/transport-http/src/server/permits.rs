//! The permits of requests: they bound what requests make a node hold while they arrive and while
//! they are answered.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The bodies of more than 4 KiB that are read at once. The rest of them wait, so that a thousand
/// connections that send long keys slowly hold some megabytes and not a hundred.
const MAX_LARGE_BODIES: usize = 32;

/// The keys of batches that are answered at once; a longer key counts as one for each
/// [`KEY_BYTES`], and one more. They need some 15 MB then. Further batches are answered as
/// overload.
const MAX_KEYS: usize = 16 * 1024;

/// The length of a key, in bytes, from which it counts as more than one.
const KEY_BYTES: usize = 64;

/// The bytes of values that arrive at once: as many as may be on their way out. A longer value
/// arrives alone.
const MAX_ARRIVING_BYTES: u32 = 20 * 1024 * 1024;

/// The permits of one peer server.
pub(super) struct Permits {
    large_bodies: Semaphore,
    keys: Arc<Semaphore>,
    arriving_bytes: Semaphore,
}

impl Permits {
    pub(super) fn new() -> Self {
        Permits {
            large_bodies: Semaphore::new(MAX_LARGE_BODIES),
            keys: Arc::new(Semaphore::new(MAX_KEYS)),
            arriving_bytes: Semaphore::new(MAX_ARRIVING_BYTES as usize),
        }
    }

    /// Waits for the permit of a body that is not small; to be held until the body is read.
    pub(super) async fn large_body(&self) -> SemaphorePermit<'_> {
        self.large_bodies.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits for the permit of a value of this many bytes; to be held until the update is made.
    pub(super) async fn value(&self, bytes: usize) -> SemaphorePermit<'_> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_ARRIVING_BYTES);
        self.arriving_bytes.acquire_many(bytes).await.expect("the semaphore is never closed")
    }

    /// The permit of the keys of a batch, given by their lengths; to be held until they are
    /// answered. `None` when too many are asked for.
    pub(super) fn keys(&self, lengths: impl Iterator<Item = usize>) -> Option<OwnedSemaphorePermit> {
        let keys: usize = lengths.map(|length| 1 + length / KEY_BYTES).sum();
        self.keys.clone().try_acquire_many_owned(u32::try_from(keys).ok()?).ok()
    }
}
