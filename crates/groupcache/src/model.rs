//! The store of one key, for the model check in `tests/loom.rs`. An ordinary build has none of it.
#![allow(missing_docs, missing_debug_implementations, reason = "this is no interface for anybody but the check")]

use std::sync::Arc;

use bytes::Bytes;
use loom::future::block_on;
use peercache_lru::segment::Lane;

use crate::{
    answer::Source,
    cache::entry::{Entry, Found, Freshness, Origin, Requester},
    cache::expiry::Expiry,
    error::{BoxError, Error, ErrorKind},
    key::Key,
    store::flight::{self, FlightKey, FlightResult, flight_result},
    store::{self, Store, Write},
    value::Value,
};

/// A value that tells where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u32);

/// The shipped store, driven for a single key. Clones share it.
#[derive(Clone)]
pub struct KeyStore {
    store: Arc<Store<Number>>,
}

/// The result of joining a flight.
pub enum Joined {
    Hit(u32),
    Lead(Leader),
    Wait(Waiter),
    BackedOff,
}

pub struct Leader {
    store: KeyStore,
    leader: flight::Leader<Number>,
}

pub struct Waiter(flight::Waiter<Number>);

/// The result that a waiter gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    Value(u32),
    Failed,
    Retry,
}

const WEIGHT: usize = 100;
const NOW_MS: u64 = 1_000;

fn key() -> Key {
    Key::from("key")
}

impl KeyStore {
    pub fn new() -> Self {
        KeyStore { store: Arc::new(Store::for_model_check(10 * WEIGHT)) }
    }

    /// The first lookup of a get.
    pub fn look_up(&self) -> Option<u32> {
        let read = |entry: crate::cache::shard::EntryRef<'_, Number>| entry.value();
        let value = self.store.get(key().as_bytes(), Requester::Local, Freshness::AllowStale, NOW_MS, read)?;
        value.map(|Number(number)| number)
    }

    pub fn join_load(&self) -> Joined {
        self.join(FlightKey::load(key()))
    }

    pub fn join_fetch(&self) -> Joined {
        self.join(FlightKey::fetch(key()))
    }

    fn join(&self, flight: FlightKey) -> Joined {
        match self.store.join(flight, Requester::Local, Freshness::AllowStale, NOW_MS) {
            store::Joined::Lead(leader) => Joined::Lead(Leader { store: self.clone(), leader }),
            store::Joined::Wait(waiter, _) => Joined::Wait(Waiter(waiter)),
            store::Joined::Hit(found) => Joined::Hit(found.value.expect("only values are put here").0),
            store::Joined::BackedOff(_) => Joined::BackedOff,
        }
    }

    pub fn remove(&self) {
        self.store.remove(&key());
    }

    pub fn set(&self, number: u32) {
        let stamp = self.store.set_order().stamp(NOW_MS);
        let turn = || self.store.set_order().take_turn(&key(), stamp, 0);
        self.store.set(&key(), WEIGHT, entry(number), || Some((Lane::Main, Expiry::never(NOW_MS))), turn);
    }

    pub fn clear(&self) {
        self.store.clear();
    }

    pub fn in_flight(&self) -> usize {
        self.store.in_flight()
    }
}

impl Leader {
    pub fn waiter(&self) -> Waiter {
        Waiter(self.leader.waiter())
    }

    pub fn publish(self, number: u32) {
        let Leader { store: KeyStore { store }, leader } = self;
        let found =
            Found { value: Some(Number(number)), source: Source::Origin, age_ms: 0, remaining_ms: None, qps: None };
        let place = || Some((Lane::Main, Expiry::never(NOW_MS)));
        store.publish(leader, &key(), Ok(found), Write::Insert(WEIGHT, entry(number)), place);
    }

    pub fn fail(self) {
        let Leader { store: KeyStore { store }, leader } = self;
        store.fail(leader, &key(), Error::new(ErrorKind::LoadFailed), true, NOW_MS);
    }
}

impl Waiter {
    pub fn wait(self) -> Waited {
        match flight_result(block_on(self.0)) {
            FlightResult::Done(Ok(found)) => Waited::Value(found.value.expect("only values are put here").0),
            FlightResult::Done(Err(_)) => Waited::Failed,
            FlightResult::Retry | FlightResult::Abandoned => Waited::Retry,
        }
    }
}

impl Default for KeyStore {
    fn default() -> Self {
        KeyStore::new()
    }
}

fn entry(number: u32) -> Entry<Number> {
    Entry::new(&key(), Some(Number(number)), Origin::Loaded, Expiry::never(NOW_MS))
}

impl Value for Number {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(&self.0.to_be_bytes()))
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(Number(u32::from_be_bytes(bytes.as_ref().try_into()?)))
    }

    fn weight(&self) -> usize {
        4
    }
}
