//! The store of one key, for the model checks in `tests/loom.rs`. An ordinary build has none of it.
#![allow(missing_docs, reason = "this is no interface for anybody but the check")]

use std::sync::Arc;

use loom::future::block_on;

use crate::{
    Bytes,
    answer::Source,
    cache::entry::{Entry, Found, Freshness, Origin, Place, Requester},
    cache::expiry::Expiry,
    error::{BoxError, Error, ErrorKind},
    key::Key,
    store::flight::{FlightKey, FlightResult, Leader, Waiter, landed},
    store::{Joined, Store, Write},
    value::Value,
};

/// A value that tells where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u32);

#[derive(Clone)]
pub struct Shelf {
    store: Arc<Store<Number>>,
}

/// What asking gives.
pub enum Asked {
    Found(u32),
    Lead(Lead),
    Wait(Wait),
    BackedOff,
}

pub struct Lead {
    shelf: Shelf,
    leader: Leader<Number>,
}

pub struct Wait(Waiter<Number>);

/// What those who wait are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Value(u32),
    Failed,
    Again,
}

const WEIGHT: usize = 100;
const NOW_MS: u64 = 1_000;

fn key() -> Key {
    Key::from("key")
}

impl Shelf {
    pub fn new() -> Self {
        Shelf { store: Arc::new(Store::for_model_check(10 * WEIGHT)) }
    }

    /// The first look of a get.
    pub fn look(&self) -> Option<u32> {
        let value =
            self.store
                .cache
                .get(key().as_bytes(), Requester::Local, Freshness::AllowStale, NOW_MS, |seen| seen.value())?;
        value.map(|Number(number)| number)
    }

    pub fn ask_to_load(&self) -> Asked {
        self.ask(FlightKey::load(key()))
    }

    pub fn ask_to_fetch(&self) -> Asked {
        self.ask(FlightKey::fetch(key()))
    }

    fn ask(&self, flight: FlightKey) -> Asked {
        match self.store.join(flight, Requester::Local, Freshness::AllowStale, NOW_MS) {
            Joined::Lead(leader) => Asked::Lead(Lead { shelf: self.clone(), leader }),
            Joined::Wait(waiter) => Asked::Wait(Wait(waiter)),
            Joined::Hit(found) => Asked::Found(found.value.expect("only values are put here").0),
            Joined::BackedOff(_) => Asked::BackedOff,
        }
    }

    pub fn remove(&self) {
        self.store.remove(&key());
    }

    pub fn set(&self, number: u32) {
        self.store.set(&key(), WEIGHT, entry(number), || Some((Place::Main, Expiry::endless(NOW_MS))));
    }

    pub fn clear(&self) {
        self.store.clear();
    }

    pub fn in_flight(&self) -> usize {
        self.store.in_flight()
    }
}

impl Lead {
    pub fn waiter(&self) -> Wait {
        Wait(self.leader.waiter())
    }

    pub fn publish(self, number: u32) {
        let found =
            Found { value: Some(Number(number)), source: Source::Origin, age_ms: 0, remaining_ms: None, qps: None };
        let place = || Some((Place::Main, Expiry::endless(NOW_MS)));
        self.shelf.store.publish(self.leader, key(), Ok(found), Write::Entry(WEIGHT, entry(number)), place);
    }

    pub fn fail(self) {
        let error = Error::new(ErrorKind::LoadFailed);
        self.shelf.store.fail(self.leader, &key(), error, true, NOW_MS);
    }
}

impl Wait {
    pub fn hear(self) -> Heard {
        match landed(block_on(self.0)) {
            FlightResult::Done(Ok(found)) => Heard::Value(found.value.expect("only values are put here").0),
            FlightResult::Done(Err(_)) => Heard::Failed,
            FlightResult::Retry | FlightResult::Abandoned => Heard::Again,
        }
    }
}

impl Default for Shelf {
    fn default() -> Self {
        Shelf::new()
    }
}

fn entry(number: u32) -> Entry<Number> {
    Entry::new(&key(), Some(Number(number)), Origin::Loaded, Expiry::endless(NOW_MS))
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
