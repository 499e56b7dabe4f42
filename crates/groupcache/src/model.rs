//! The store of one key, for the model checks in `tests/loom.rs`. An ordinary build has none of it.
#![allow(missing_docs, reason = "this is no interface for anybody but the check")]

use std::sync::Arc;

use loom::future::block_on;

use crate::{
    Bytes,
    answer::Source,
    cache::entry::{Entry, Found, Look, Origin, Place, Reader},
    cache::expiry::Life,
    error::{BoxError, Error, ErrorKind},
    key::Key,
    store::flight::{FlightKey, Landing, Passenger, Pilot, landed},
    store::{Boarding, Store, Write},
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
    pilot: Pilot<Number>,
}

pub struct Wait(Passenger<Number>);

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
        let value = self.store.cache.get(key().as_bytes(), Reader::Caller, Look::Any, NOW_MS, |seen| seen.value())?;
        value.map(|Number(number)| number)
    }

    pub fn ask_to_load(&self) -> Asked {
        self.ask(FlightKey::load(key()))
    }

    pub fn ask_to_fetch(&self) -> Asked {
        self.ask(FlightKey::fetch(key()))
    }

    fn ask(&self, flight: FlightKey) -> Asked {
        match self.store.board(flight, Reader::Caller, Look::Any, NOW_MS) {
            Boarding::Lead(pilot) => Asked::Lead(Lead { shelf: self.clone(), pilot }),
            Boarding::Wait(passenger) => Asked::Wait(Wait(passenger)),
            Boarding::Hit(found) => Asked::Found(found.value.expect("only values are put here").0),
            Boarding::BackedOff(_) => Asked::BackedOff,
        }
    }

    pub fn remove(&self) {
        self.store.remove(&key());
    }

    pub fn set(&self, number: u32) {
        self.store.set(&key(), WEIGHT, entry(number), || Some((Place::Main, Life::endless(NOW_MS))));
    }

    pub fn clear(&self) {
        self.store.clear();
    }

    pub fn under_way(&self) -> usize {
        self.store.under_way()
    }
}

impl Lead {
    pub fn waiter(&self) -> Wait {
        Wait(self.pilot.waiter())
    }

    pub fn publish(self, number: u32) {
        let found =
            Found { value: Some(Number(number)), source: Source::Origin, age_ms: 0, remaining_ms: None, qps: None };
        let place = || Some((Place::Main, Life::endless(NOW_MS)));
        self.shelf.store.publish(self.pilot, key(), Ok(found), Write::Entry(WEIGHT, entry(number)), place);
    }

    pub fn fail(self) {
        let error = Error::new(ErrorKind::LoadFailed);
        self.shelf.store.fail(self.pilot, &key(), error, true, NOW_MS);
    }
}

impl Wait {
    pub fn hear(self) -> Heard {
        match landed(block_on(self.0)) {
            Landing::Done(Ok(found)) => Heard::Value(found.value.expect("only values are put here").0),
            Landing::Done(Err(_)) => Heard::Failed,
            Landing::Again | Landing::Left => Heard::Again,
        }
    }
}

impl Default for Shelf {
    fn default() -> Self {
        Shelf::new()
    }
}

fn entry(number: u32) -> Entry<Number> {
    Entry::new(&key(), Some(Number(number)), Origin::Loaded, Life::endless(NOW_MS))
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
