//! redis by the `redis` crate: a connection for each caller, one request at a time on each; or one
//! connection for all.

use anyhow::{Context, Result};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, aio::MultiplexedConnection};

use crate::{
    setting::{Setting, key},
    system::System,
};

pub struct Redis {
    connections: Vec<Slot>,
    multiplexed: bool,
}

/// A connection that callers take in turn; or share, if they are meant to.
struct Slot {
    connection: MultiplexedConnection,
    turn: tokio::sync::Mutex<()>,
}

impl Redis {
    pub async fn connect(setting: &Setting) -> Result<Self> {
        let client = Client::open(format!("redis://{}", setting.server))?;
        let mut connections = Vec::new();
        for _ in 0..setting.connections_wanted() {
            // Without the crate's timer for each answer: nobody else here has one for every get.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            connections.push(Slot { connection, turn: tokio::sync::Mutex::new(()) });
        }
        Ok(Redis { connections, multiplexed: setting.multiplexed })
    }

    fn slot(&self, caller: usize) -> &Slot {
        &self.connections[caller % self.connections.len()]
    }

    async fn taken(&self, caller: usize) -> (MultiplexedConnection, Option<tokio::sync::MutexGuard<'_, ()>>) {
        let slot = self.slot(caller);
        let turn = if self.multiplexed { None } else { Some(slot.turn.lock().await) };
        (slot.connection.clone(), turn)
    }
}

impl System for Redis {
    async fn get(&self, caller: usize, key: &str) -> Result<usize> {
        let (mut connection, _turn) = self.taken(caller).await;
        let value: Option<Vec<u8>> = connection.get(key).await?;
        Ok(value.map_or(0, |value| value.len()))
    }

    async fn get_many(&self, caller: usize, keys: &[&str]) -> Result<usize> {
        let (mut connection, _turn) = self.taken(caller).await;
        let values: Vec<Option<Vec<u8>>> = connection.mget(keys).await?;
        Ok(values.into_iter().flatten().map(|value| value.len()).sum())
    }

    async fn fill(&self, setting: &Setting) -> Result<Vec<String>> {
        let value = setting.value();
        let (mut connection, _turn) = self.taken(0).await;
        let keys: Vec<String> = (0..setting.keys).map(key).collect();
        for key in &keys {
            let () = connection.set(key, &value[..]).await?;
        }
        Ok(keys)
    }

    async fn crossed(&self) -> Result<u64> {
        let (mut connection, _turn) = self.taken(0).await;
        let info: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await?;
        let hits = info.lines().find_map(|line| line.strip_prefix("keyspace_hits:"));
        Ok(hits.context("redis counts no hits")?.trim().parse()?)
    }
}
