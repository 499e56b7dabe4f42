use std::fmt;

/// How much a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// What is counted.
    pub unit: Unit,
    /// How many of them.
    pub amount: u64,
}

/// What a capacity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Entries, whatever their size.
    Entries,
    /// Bytes of key and value.
    Bytes,
}

impl Capacity {
    /// Room for so many entries.
    pub fn entries(amount: u64) -> Self {
        Capacity { unit: Unit::Entries, amount }
    }

    /// Room for so many bytes of key and value.
    pub fn bytes(amount: u64) -> Self {
        Capacity { unit: Unit::Bytes, amount }
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
