//! The flags of `cargo xtask hit-ratio`. xtask has this file as well: it refuses a wrong flag
//! before it builds anything.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Replay a recorded trace or made-up workloads, and say how often caches of some sizes have what
/// is asked for.
#[derive(Args, Debug)]
pub struct HitRatio {
    /// The requests: little-endian records, raw or packed (`.zst`). Without it, workloads are made
    /// up.
    ///
    /// Unit records have 8 bytes (a u64 key), sized ones 12 (a u64 key, and a u32 size of key and
    /// value together). A file does not say which it has: --bytes reads sized records, --entries
    /// unit ones if the file's length allows it, and --records overrules.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Room for this many entries, whatever their size. Defaults to 1, 5, 10 and 20 % of the keys.
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "bytes", value_parser = amount)]
    pub entries: Vec<u64>,
    /// Room for this many bytes of key and value.
    #[arg(long, value_name = "N,N", value_delimiter = ',', requires = "trace", value_parser = amount)]
    pub bytes: Vec<u64>,
    /// Caches that are tried. Defaults to lru, default and belady; with --nodes to golang and
    /// default.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub policy: Vec<PolicyName>,
    /// Number of nodes that share the keys: requests arrive at a random one, each has the whole
    /// capacity.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    #[arg(allow_negative_numbers = true)]
    pub nodes: Option<u16>,
    /// Requests that arrive in a second at all nodes together, which says how long copies live.
    /// Needs --nodes.
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "nodes")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Seed of all that is random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Kind of the trace's records.
    #[arg(long, value_name = "KIND", requires = "trace")]
    pub records: Option<RecordsName>,
    /// Workloads that are made up. Defaults to all.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', conflicts_with = "trace")]
    pub workload: Vec<WorkloadName>,
    /// One JSON object per policy and size, each on a line, and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
    /// Draw hit ratio over size.
    #[arg(long, value_name = "FILE.svg", value_parser = svg)]
    pub plot: Option<PathBuf>,
}

/// A cache to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// The cache that `Group::builder` gives.
    Default,
    /// Exact LRU; with --nodes, without copies of others' keys.
    Lru,
    /// The best that could be done by one who knows the future.
    Belady,
    /// golang/groupcache: LRU, and copies of one fetch in ten in at most an eighth of main.
    Golang,
    /// S3-FIFO as its paper has it.
    S3Fifo,
    /// SIEVE as its paper has it.
    Sieve,
    /// The moka crate (W-TinyLFU).
    #[value(alias = "w-tinylfu")]
    Moka,
    /// The quick_cache crate.
    QuickCache,
    /// All of them.
    All,
}

/// Requests to make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadName {
    /// A Zipf law that never changes.
    Zipf,
    /// The same, with runs through keys that are asked for once.
    Scan,
    /// All keys round and round.
    Loop,
    /// A Zipf law whose popular keys change.
    Shifting,
}

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordsName {
    /// 8 bytes: a key.
    Unit,
    /// 12 bytes: a key and a size.
    Sized,
}

/// More than any machine's memory, in bytes or in entries.
const MAX_AMOUNT: u64 = 1 << 50;

fn amount(text: &str) -> Result<u64, String> {
    let amount = text.trim().parse().ok().filter(|amount| (1..=MAX_AMOUNT).contains(amount));
    amount.ok_or_else(|| format!("write numbers from 1 to {MAX_AMOUNT}, such as 1000,10000"))
}

fn svg(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_svg = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
    if is_svg { Ok(path) } else { Err("write the name of a file that ends with .svg".to_owned()) }
}

impl HitRatio {
    /// Checks what the flags' own types cannot: a sentence about what is wrong with them together.
    pub fn check(&self) -> Result<(), String> {
        const AT_NODES: [PolicyName; 4] = [PolicyName::Default, PolicyName::Lru, PolicyName::Golang, PolicyName::All];
        if let Some(trace) = self.trace.as_ref().filter(|trace| !trace.is_file()) {
            return Err(format!("there is no file {}: write the path of a trace after --trace", trace.display()));
        }
        let alone = self.policy.iter().find(|policy| !AT_NODES.contains(policy)).filter(|_| self.nodes.is_some());
        match alone.and_then(ValueEnum::to_possible_value) {
            None => Ok(()),
            Some(policy) => {
                Err(format!("{} is a cache of one node: with --nodes write default, golang or lru", policy.get_name()))
            }
        }
    }
}
