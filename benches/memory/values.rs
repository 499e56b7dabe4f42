//! Values that the caches hold.

use std::sync::Arc;

use bytes::Bytes;
use peercache_groupcache::{BoxError, Value};

/// Something that can be made any number of times, and weighed as its users would.
pub trait Made: Value {
    fn made(size: usize, number: usize) -> Self;
    /// Weight in bytes, beyond the key.
    fn weighed(&self) -> usize;
}

impl Made for Bytes {
    fn made(size: usize, _: usize) -> Self {
        // In a block of its own, of which all is written.
        Bytes::copy_from_slice(&vec![7; size])
    }

    fn weighed(&self) -> usize {
        self.len()
    }
}

/// A value that a service decodes once and reads often.
#[derive(Clone)]
pub struct Person {
    name: String,
    role: String,
    since: u64,
}

impl Made for Arc<Person> {
    fn made(_: usize, number: usize) -> Self {
        Arc::new(Person {
            name: format!("person {number:012}"),
            role: "r".repeat(150 + number % 100),
            since: number as u64,
        })
    }

    /// Counts what it owns, as its user knows it: the allocator's part is not seen.
    fn weighed(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        counts + size_of::<Person>() + self.name.capacity() + self.role.capacity()
    }
}

impl Value for Person {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(format!("{} {} {}", self.since, self.name, self.role).into())
    }

    fn decode(_: Bytes) -> Result<Self, BoxError> {
        Err("a node that is alone decodes nothing".into())
    }

    fn weight(&self) -> usize {
        self.name.capacity() + self.role.capacity()
    }
}
