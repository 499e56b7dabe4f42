//! The flights of a group: what their keys are, and what they end with.

use std::hash::{Hash, Hasher};

use ahash::RandomState;
use peercache_singleflight::{self as singleflight, Abandoned, Flights};

use crate::{
    cache::entry::Found,
    error::{Error, ErrorKind},
    key::Key,
};

/// The flights of one group.
pub(crate) type Table<V> = Flights<FlightKey, FlightResult<V>, RandomState>;

/// The one who brings a result.
pub(crate) type Leader<V> = singleflight::Leader<FlightKey, FlightResult<V>, RandomState>;

/// A future of the result that a leader brings.
pub(crate) type Waiter<V> = singleflight::Waiter<FlightResult<V>>;

/// The end of a flight, for all who share it.
#[derive(Clone, Debug)]
pub(crate) enum FlightResult<V> {
    Done(Outcome<V>),
    /// The key was changed: a waiter that still wants it starts again.
    Retry,
    /// The caller who started it was gone before it began: a waiter that still wants the key starts
    /// again.
    Abandoned,
}

/// The result of a get.
pub(crate) type Outcome<V> = Result<Found<V>, Error>;

/// The key of a flight: a load and a fetch of the same key have a slot each.
///
/// A peer's request must never wait on a fetch: two members that each take the other for the owner
/// would wait for each other. Both slots lie under one shard lock.
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

/// Leaves the slot out, so that both slots fall under the same lock.
impl Hash for FlightKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// The result that a waiter got; a leader that was dropped without one is a failed load.
pub(crate) fn flight_result<V>(result: Result<FlightResult<V>, Abandoned>) -> FlightResult<V> {
    result.unwrap_or_else(|Abandoned| {
        FlightResult::Done(Err(Error::with_message(
            ErrorKind::LoadFailed,
            "the load was dropped before it ended: its runtime is gone, or has no timer",
        )))
    })
}
