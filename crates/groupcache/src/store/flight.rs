use std::hash::{Hash, Hasher};

use ahash::RandomState;
use peercache_singleflight::{self as singleflight, Abandoned, Flights};

use crate::{
    cache::entry::Found,
    error::{Error, ErrorKind},
    key::Key,
};

/// The flights of one group. Its shard locks order everything about a key: the second look, publishing and removal.
pub(crate) type Table<V> = Flights<FlightKey, FlightResult<V>, RandomState>;

/// The one who brings a result.
pub(crate) type Leader<V> = singleflight::Leader<FlightKey, FlightResult<V>, RandomState>;

/// Those who wait for it.
pub(crate) type Waiter<V> = singleflight::Waiter<FlightResult<V>>;

/// How a flight ends for all who share it.
#[derive(Clone, Debug)]
pub(crate) enum FlightResult<V> {
    Done(Outcome<V>),
    /// The key was removed: whoever still wants it departs anew.
    Retry,
    /// The caller who started it was gone before it began: whoever still wants the key departs anew.
    Abandoned,
}

/// What a get comes to.
pub(crate) type Outcome<V> = Result<Found<V>, Error>;

/// A key has a slot for a load and one for a fetch, for a peer's request must never wait on a fetch: two members that
/// each take the other for the owner would wait for each other. Both slots lie under one shard lock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FlightKey {
    pub(crate) key: Key,
    pub(crate) slot: Slot,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Slot {
    Load,
    Fetch,
}

impl FlightKey {
    pub(crate) fn load(key: Key) -> Self {
        FlightKey { key, slot: Slot::Load }
    }

    pub(crate) fn fetch(key: Key) -> Self {
        FlightKey { key, slot: Slot::Fetch }
    }

    pub(crate) fn is_load(&self) -> bool {
        self.slot == Slot::Load
    }
}

/// The slot is left out, so that both slots fall under the same lock.
impl Hash for FlightKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// What a waiter is told, where a leader that never landed is an error like any other.
pub(crate) fn landed<V>(result: Result<FlightResult<V>, Abandoned>) -> FlightResult<V> {
    result.unwrap_or_else(|Abandoned| {
        FlightResult::Done(Err(Error::with_message(
            ErrorKind::LoadFailed,
            "the load was dropped before it ended: its runtime is gone, or has no timer",
        )))
    })
}
