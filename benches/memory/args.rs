//! The flags of `cargo xtask memory`. xtask has this file as well: it refuses a wrong flag before
//! it builds anything.

use clap::{Args, ValueEnum};

/// Measure how much resident memory caches take for their budget, each in a process of its own.
#[derive(Args, Clone, Debug)]
pub struct Memory {
    /// Caches that are measured. Defaults to all.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub system: Vec<SystemName>,
    /// Kinds of values they hold. Defaults to all kinds.
    #[arg(long, value_name = "KIND,..", value_delimiter = ',')]
    pub value: Vec<ValueName>,
    /// The budgets in MiB.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [176, 224, 256, 320, 368])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub budget_mib: Vec<u64>,
    /// One JSON object per system, kind and budget, each on a line, and nothing else on standard
    /// output.
    #[arg(long)]
    pub json: bool,
}

/// A cache to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SystemName {
    /// A group, as `Group::builder` gives it.
    Ours,
    /// The moka crate.
    Moka,
    /// The quick_cache crate.
    QuickCache,
    /// The memory half of the foyer crate.
    Foyer,
    /// 64 locked caches of the lru crate.
    Lru,
}

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueName {
    /// 100 bytes.
    #[value(name = "100")]
    Hundred,
    /// 1,000 bytes.
    #[value(name = "1k")]
    Thousand,
    /// 10,000 bytes.
    #[value(name = "10k")]
    TenThousand,
    /// A structure of some strings behind an `Arc`, with a weigher.
    Typed,
}
