#![doc = include_str!("../README.md")]

mod table;

mod assign;

mod ring;

mod profile;

mod names;

mod limits;

mod digest;

mod error;

pub use crate::digest::VERSION;
pub use crate::error::Error;
pub use crate::limits::{MAX_NAMES, MAX_REPLICAS};
pub use crate::profile::Profile;
pub use crate::ring::Ring;
pub use crate::table::{SLOTS, Table};
