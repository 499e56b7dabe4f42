//! The flights of a group: what their keys are, and what they end with.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use ahash::RandomState;
use peercache_singleflight::{self as singleflight, Abandoned, Flights};

use crate::{
    cache::entry::Found,
    carrier::Carrier,
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
    /// It was given up: the caller who started it was gone before it began, or the runtime that
    /// carries it shows no sign of life. A waiter that still wants the key starts again.
    Abandoned,
}

/// The result of a get.
pub(crate) type Outcome<V> = Result<Found<V>, Error>;

/// The key of a flight: a load and a fetch of the same key have a slot each.
///
/// A peer's request must never wait on a fetch: two members that each take the other for the owner
/// would wait for each other. Both slots lie under one shard lock.
#[derive(Clone, Debug)]
pub(crate) struct FlightKey {
    pub(crate) key: Key,
    pub(crate) slot: Slot,
    /// The runtime that carries the flight, for callers of others who find it. It is no part of
    /// what tells two keys apart.
    pub(crate) carrier: Option<Arc<Carrier>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Slot {
    Load,
    Fetch,
}

impl FlightKey {
    pub(crate) fn load(key: Key) -> Self {
        FlightKey { key, slot: Slot::Load, carrier: None }
    }

    pub(crate) fn fetch(key: Key) -> Self {
        FlightKey { key, slot: Slot::Fetch, carrier: None }
    }

    /// The same key, of a flight that `carrier` would carry.
    pub(crate) fn carried_by(self, carrier: &Arc<Carrier>) -> Self {
        FlightKey { carrier: Some(carrier.clone()), ..self }
    }

    pub(crate) fn is_carried_by(&self, carrier: &Carrier) -> bool {
        self.carrier.as_ref().is_some_and(|ours| ours.id() == carrier.id())
    }

    pub(crate) fn is_load(&self) -> bool {
        self.slot == Slot::Load
    }
}

impl PartialEq for FlightKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for FlightKey {}

impl PartialOrd for FlightKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FlightKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then(self.slot.cmp(&other.slot))
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
