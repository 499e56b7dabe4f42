//! Values on their way out of the cache.

use smallvec::SmallVec;

use crate::cache::stored::Stored;

/// Entries that have left the cache, to be dropped when no lock is held: a value's drop may take
/// its time. Most changes discard one entry or none, which costs no allocation.
pub(crate) type Discarded<V> = SmallVec<[Stored<V>; 1]>;
