//! Counters that threads do not share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use thread_local::ThreadLocal;

/// `N` counters, with a set of them for each thread, so that counting moves no cache line from one processor to another and takes no locked
/// operation. Reading sums up the sets of all threads, of those that have ended as well.
///
/// ```
/// use peercache_lru::sharding::PerThreadCounters;
///
/// let tally = PerThreadCounters::<2>::default();
/// std::thread::scope(|threads| {
///     for _ in 0..3 {
///         threads.spawn(|| tally.count(1));
///     }
/// });
/// assert_eq!(tally.sums(), [0, 3]);
/// ```
#[derive(Debug, Default)]
pub struct PerThreadCounters<const N: usize>(ThreadLocal<Own<N>>);

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug)]
struct Own<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Own<N> {
    fn default() -> Self {
        Own([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> PerThreadCounters<N> {
    /// Adds one to counter `which`.
    ///
    /// # Panics
    /// If there is no such counter.
    #[inline]
    pub fn count(&self, which: usize) {
        let counter = &self.own().0[which];
        // Nobody else writes it, so nothing is lost between the two.
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    fn own(&self) -> &Own<N> {
        #[cold]
        #[inline(never)]
        fn new<const N: usize>(tally: &PerThreadCounters<N>) -> &Own<N> {
            tally.0.get_or_default()
        }
        self.0.get().unwrap_or_else(|| new(self))
    }

    /// What all threads have counted. The counts of threads that are at it are of slightly different moments.
    #[must_use]
    pub fn sums(&self) -> [u64; N] {
        let mut sums = [0; N];
        for own in &self.0 {
            for (sum, counter) in sums.iter_mut().zip(&own.0) {
                *sum = u64::wrapping_add(*sum, counter.load(Relaxed));
            }
        }
        sums
    }
}
