//! Capacities, in entries or in bytes.

use std::fmt;

/// The amount that a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The unit that is counted.
    pub unit: Unit,
    /// The number of them.
    pub amount: u64,
}

/// A unit of capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Entries, whatever their size.
    Entries,
    /// Bytes of key and value.
    Bytes,
}

impl Capacity {
    /// Room for this many entries.
    pub fn entries(amount: u64) -> Self {
        Capacity { unit: Unit::Entries, amount }
    }

    /// Room for this many bytes of key and value.
    pub fn bytes(amount: u64) -> Self {
        Capacity { unit: Unit::Bytes, amount }
    }

    /// Whether something of this weight can be held at all.
    pub(crate) fn fits(self, weight: u64) -> bool {
        weight <= self.amount
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Entries => write!(f, "{} entries", self.amount),
            Unit::Bytes => write!(f, "{} B", self.amount),
        }
    }
}
