//! Settings of a run.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use clap::Args;

/// Duration of a load of a key that begins with [`SLOW_PREFIX`].
pub const SLOW_LOAD: Duration = Duration::from_millis(50);

pub const SLOW_PREFIX: &str = "slow:";

#[derive(Args, Clone, Debug)]
pub struct Setting {
    /// System that is measured.
    #[arg(long)]
    pub system: String,
    /// Address of the process that holds the values.
    #[arg(long)]
    pub server: SocketAddr,
    /// Address of the process that asks, in systems where it is a member.
    #[arg(long)]
    pub client: SocketAddr,
    #[arg(long)]
    pub value_bytes: usize,
    /// Number of different keys: a multiple of what is asked for at once.
    #[arg(long)]
    pub keys: usize,
    /// Threads that run tasks.
    #[arg(long)]
    pub threads: usize,
    /// Most connections, where they are ours to bound.
    #[arg(long)]
    pub connections: usize,
    /// Number of callers at once.
    #[arg(long)]
    pub callers: usize,
    /// Number of keys that a caller asks for in one go.
    #[arg(long)]
    pub batch: usize,
    /// Seconds to measure.
    #[arg(long)]
    pub seconds: f64,
    /// Gets of which one is for a new key that is slow to load; 0 is none.
    #[arg(long)]
    pub slow_every: usize,
    /// All callers of redis on one connection, whose client sends what has collected in one go.
    #[arg(long)]
    pub multiplexed: bool,
}

impl Setting {
    /// A budget that holds all keys of the run, whatever the overhead.
    pub fn cache_bytes(&self) -> usize {
        2 * self.keys * self.value_bytes + (64 << 20)
    }

    /// Counts a connection for each caller, up to the bound; redis can have one for all.
    pub fn connections_wanted(&self) -> usize {
        if self.multiplexed { 1 } else { self.callers.min(self.connections) }
    }

    pub fn value(&self) -> Bytes {
        (0..self.value_bytes).map(|position| (position % 251) as u8 + 1).collect()
    }

    /// Makes the value of a key, as the owner's loader does, after its time.
    pub async fn load(&self, key: &[u8]) -> Bytes {
        if key.starts_with(SLOW_PREFIX.as_bytes()) {
            tokio::time::sleep(SLOW_LOAD).await;
        }
        self.value()
    }
}

/// The key of a number: 16 bytes.
pub fn key(number: usize) -> String {
    format!("role:{number:011}")
}
