//! What the cache holds, and what it gives.

use crate::{
    Key, Source,
    life::{Life, Stage},
};

/// A value and what must be known of it.
#[derive(Clone)]
pub(crate) struct Entry<V> {
    /// `None` is a "not found".
    pub(crate) value: Option<V>,
    pub(crate) origin: Origin,
    pub(crate) life: Life,
}

/// How an entry came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From a peer; never to be answered to one.
    Fetched,
    Loaded,
    /// What somebody set. It is as new as its life is young, so that a removal from before it was set is none of its concern.
    Set,
}

/// Where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Main,
    Hot,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A caller at this node may see everything.
    Caller,
    /// A peer may see what was loaded here, never what was fetched.
    Peer,
}

/// What they are content with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What may be answered.
    Any,
    /// What has been renewed since it was time for that.
    Renewed,
}

/// What was found, in the cache or by a flight.
#[derive(Clone, Debug)]
pub(crate) struct Found<V> {
    /// `None` is a "not found" that may be cached.
    pub(crate) value: Option<V>,
    pub(crate) source: Source,
    pub(crate) age_ms: u64,
    /// `None` is for ever.
    pub(crate) remaining_ms: Option<u64>,
}

/// What was found in the cache.
pub(crate) struct Hit<V> {
    pub(crate) found: Found<V>,
    /// Whether it is time to bring a new one.
    pub(crate) renew: bool,
}

impl Place {
    pub(crate) fn source(self) -> Source {
        match self {
            Place::Main => Source::Main,
            Place::Hot => Source::Hot,
        }
    }
}

impl Look {
    /// The last stage that will do.
    fn last(self) -> Stage {
        match self {
            Look::Any => Stage::Stale,
            Look::Renewed => Stage::Fresh,
        }
    }
}

impl<V> Entry<V> {
    /// What an entry costs beside key and value, in bytes.
    pub(crate) const fn overhead() -> usize {
        /// The share count that `Bytes` keeps beside its buffer once it has been cloned, as the allocator rounds it.
        const SHARE_COUNT: usize = 32;
        peercache_lru::entry_overhead::<Key, Entry<V>>() + SHARE_COUNT + SHARE_COUNT
    }

    pub(super) fn is_for(&self, reader: Reader) -> bool {
        reader == Reader::Caller || self.origin != Origin::Fetched
    }

    /// Whether it will do, and if so in which stage it is.
    pub(super) fn meets(&self, reader: Reader, look: Look, now_ms: u64) -> Option<Stage> {
        let stage = self.life.stage(now_ms);
        (self.is_for(reader) && stage <= look.last()).then_some(stage)
    }
}

impl<V: Clone> Entry<V> {
    pub(super) fn hit(&self, place: Place, stage: Stage, now_ms: u64) -> Hit<V> {
        let source = if stage >= Stage::Stale { Source::Stale } else { place.source() };
        Hit { found: self.found(source, now_ms), renew: stage >= Stage::Late }
    }

    pub(crate) fn found(&self, source: Source, now_ms: u64) -> Found<V> {
        Found {
            value: self.value.clone(),
            source,
            age_ms: self.life.age_ms(now_ms),
            remaining_ms: self.life.remaining_ms(now_ms),
        }
    }
}
