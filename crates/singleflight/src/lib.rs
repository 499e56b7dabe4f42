//! One call per key at a time; everyone who asks meanwhile shares its result.

mod error;
mod flight;
mod leader;
mod sync;
mod table;
mod waiter;

pub use error::Abandoned;
pub use hashbrown::Equivalent;
pub use leader::Leader;
pub use table::{Flights, Join, Shard};
pub use waiter::Waiter;
