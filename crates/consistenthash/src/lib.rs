#![doc = include_str!("../README.md")]

mod table;

mod assign;

mod ring;

mod profile;

mod names;

mod digest;

mod error;

pub use digest::VERSION;
pub use error::Error;
pub use names::MAX_NAMES;
pub use profile::{MAX_REPLICAS, Profile};
pub use ring::Ring;
pub use table::{SLOTS, Table};
