//! From the pool down to one HTTP exchange.

mod builder;
mod names;
mod pool;

mod peer;

mod dispatcher;
mod exchange;

mod courier;
mod native;
mod plain;
mod tell;

mod chunks;
mod failure;
mod line;

mod hyper_line;
mod reqwest_line;

pub use builder::HttpPoolBuilder;
pub use pool::HttpPool;
