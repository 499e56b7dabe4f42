//! The time as a node sees it: it stands still while the node is frozen, and a value that is slow
//! to decode has been read some time before.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use peercache_groupcache::Clock;
use tokio::time::Instant;

/// The clock of one node.
#[derive(Clone)]
pub struct NodeTime {
    begun: Instant,
    /// The time at which the node was frozen, in nanoseconds; none is [`RUNNING`].
    frozen_at: Arc<AtomicU64>,
}

const RUNNING: u64 = u64::MAX;

type Meanwhile = Box<dyn FnOnce()>;

thread_local! {
    /// The time at which the work of this moment began. A seed has one thread.
    static EARLIER: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Something that another thread does while a value is decoded.
    static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
}

/// Does work that began at `earlier`, with the decoding of a value that takes until now.
/// `meanwhile` is done before that ends.
pub fn decode_slowly(earlier: Instant, meanwhile: Option<Meanwhile>, work: impl FnOnce()) {
    EARLIER.set(Some(earlier));
    MEANWHILE.set(meanwhile);
    work();
    // It may have been refused before.
    end_decoding();
}

/// Ends the decoding of a value: it is now from here on.
pub fn end_decoding() {
    EARLIER.set(None);
    if let Some(meanwhile) = MEANWHILE.take() {
        meanwhile();
    }
}

impl NodeTime {
    pub fn new() -> Self {
        NodeTime { begun: Instant::now(), frozen_at: Arc::new(AtomicU64::new(RUNNING)) }
    }

    pub fn freeze(&self) {
        self.frozen_at.store(self.begun.elapsed().as_nanos() as u64, Relaxed);
    }

    pub fn thaw(&self) {
        self.frozen_at.store(RUNNING, Relaxed);
    }

    pub fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::simulated(move || time.now())
    }

    fn now(&self) -> Duration {
        let now = EARLIER.get().unwrap_or_else(Instant::now).duration_since(self.begun);
        now.min(Duration::from_nanos(self.frozen_at.load(Relaxed)))
    }
}
