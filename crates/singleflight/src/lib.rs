#![cfg_attr(feature = "tokio", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "tokio"),
    doc = "One call per key at a time; everyone who asks meanwhile shares its result: [`Flights`]."
)]

#[cfg(all(feature = "tokio", not(peercache_loom)))]
mod single_flight;

mod flights;

mod leader;
mod waiter;

mod flight;
mod table;

mod error;
mod sync;

pub use error::Abandoned;
#[cfg(all(feature = "tokio", not(peercache_loom)))]
pub use error::CallError;
pub use flights::{Detached, Flights, Join, Shard};
pub use hashbrown::Equivalent;
pub use leader::Leader;
#[cfg(all(feature = "tokio", not(peercache_loom)))]
pub use single_flight::{Outcome, SingleFlight};
pub use waiter::Waiter;
