#![cfg_attr(feature = "tokio", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "tokio"),
    doc = "One call for each key at a time, shared by all who ask meanwhile: [`Flights`]."
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

pub use crate::error::Abandoned;
#[cfg(all(feature = "tokio", not(peercache_loom)))]
pub use crate::error::CallError;
pub use crate::flights::{Detached, Flights, Join, Shard};
pub use crate::leader::Leader;
#[cfg(all(feature = "tokio", not(peercache_loom)))]
pub use crate::single_flight::{Outcome, SingleFlight};
pub use crate::waiter::Waiter;
pub use hashbrown::Equivalent;
