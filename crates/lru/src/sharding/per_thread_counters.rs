//! Counters without a shared cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use thread_local::ThreadLocal;

/// A set of `N` counters for each thread.
///
/// To count moves no cache line from one processor to another and takes no locked operation. To
/// read sums up the sets of all threads, also of those that have ended.
///
/// ```
/// use peercache_lru::sharding::PerThreadCounters;
///
/// let counters = PerThreadCounters::<2>::default();
/// std::thread::scope(|threads| {
///     for _ in 0..3 {
///         threads.spawn(|| counters.count(1));
///     }
/// });
/// assert_eq!(counters.sums(), [0, 3]);
/// ```
#[derive(Debug, Default)]
pub struct PerThreadCounters<const N: usize>(ThreadLocal<Counters<N>>);

/// The counters of one thread, aligned to two cache lines, which processors fetch together.
#[repr(align(128))]
#[derive(Debug)]
struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Counters([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> PerThreadCounters<N> {
    /// Adds one to counter `which`.
    ///
    /// # Panics
    /// If there is no such counter.
    #[inline]
    pub fn count(&self, which: usize) {
        let counter = &self.counters().0[which];
        // No other thread writes it, so nothing is lost between load and store.
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    fn counters(&self) -> &Counters<N> {
        #[cold]
        #[inline(never)]
        fn new<const N: usize>(all: &PerThreadCounters<N>) -> &Counters<N> {
            all.0.get_or_default()
        }
        self.0.get().unwrap_or_else(|| new(self))
    }

    /// The sums over all threads. Counts of busy threads are of slightly different moments.
    #[must_use]
    pub fn sums(&self) -> [u64; N] {
        let mut sums = [0; N];
        for counters in &self.0 {
            for (sum, counter) in sums.iter_mut().zip(&counters.0) {
                *sum = u64::wrapping_add(*sum, counter.load(Relaxed));
            }
        }
        sums
    }
}
