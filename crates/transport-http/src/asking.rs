//! From the pool down to one HTTP exchange.

mod builder;
mod names;
mod pool;

mod peer;

mod many;
mod native;
mod plain;
mod tell;

mod chunks;
mod exchange;
mod failure;

pub use builder::HttpPoolBuilder;
pub use pool::HttpPool;
