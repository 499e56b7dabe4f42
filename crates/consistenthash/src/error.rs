//! The reasons why a list of names is refused.

use std::fmt;

use crate::limits::{MAX_NAMES, MAX_REPLICAS};

/// The reason why a [`Table`](crate::Table) or a [`Ring`](crate::Ring) could not be built.
///
/// A look-up of a key never fails; only the list of names can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The list holds this name twice. Names are compared byte by byte.
    DuplicateName(String),
    /// The list holds more than [`MAX_NAMES`] names.
    TooManyNames,
    /// The [`Profile`](crate::Profile) asks for this many points per name: none, or more than
    /// [`MAX_REPLICAS`].
    Replicas(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::DuplicateName(name) => write!(f, "name {name:?} is in the list twice"),
            Error::TooManyNames => write!(f, "the list holds more than {MAX_NAMES} names"),
            Error::Replicas(replicas) => {
                write!(f, "{replicas} replicas: expected 1 to {MAX_REPLICAS}")
            }
        }
    }
}

impl std::error::Error for Error {}
