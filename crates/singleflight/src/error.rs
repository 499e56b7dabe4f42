//! What can go wrong with a flight.

use std::error::Error;
use std::fmt;

/// The flight ended without a result: its leader was dropped, or panicked while it published. The
/// key is free; whoever still wants it may join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the flight was abandoned before it had a result")
    }
}

impl Error for Abandoned {}
