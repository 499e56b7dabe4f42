//! A database whose rows change, and whose loads can be held up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use peercache::{Batch, BatchLoader, Bytes, Key, LoadError, Loaded, Loader};
use tokio::sync::watch;

/// An origin whose values change. A load answers with the row of the moment when it began, however
/// long it is held up.
#[derive(Clone, Default)]
pub struct Database {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rows: Mutex<HashMap<Key, String>>,
    loads: Mutex<HashMap<Key, usize>>,
    calls: Mutex<usize>,
    /// Whether loads are held up.
    held: watch::Sender<bool>,
}

impl Database {
    pub fn write(&self, key: &str, value: impl Into<String>) {
        self.shared.rows.lock().unwrap().insert(key.into(), value.into());
    }

    /// Holds loads up from now on.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets them go on.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// The number of loads of this key, those in progress included.
    pub fn loads(&self, key: &str) -> usize {
        self.shared.loads.lock().unwrap().get(key.as_bytes()).copied().unwrap_or(0)
    }

    /// The number of calls of the loader, for any keys.
    pub fn calls(&self) -> usize {
        *self.shared.calls.lock().unwrap()
    }

    fn called(&self) {
        *self.shared.calls.lock().unwrap() += 1;
    }

    fn read(&self, key: &Key) -> Result<Loaded<Bytes>, LoadError> {
        *self.shared.loads.lock().unwrap().entry(key.clone()).or_default() += 1;
        let row = self.shared.rows.lock().unwrap().get(key).cloned();
        row.map(|value| Loaded::new(value.into())).ok_or_else(LoadError::not_found)
    }

    async fn held_up(&self) -> Result<(), LoadError> {
        Ok(self.shared.held.subscribe().wait_for(|held| !held).await.map(drop)?)
    }
}

/// Loads one key in a call.
impl Loader for Database {
    type Value = Bytes;

    async fn load(&self, key: Key) -> Result<Loaded<Bytes>, LoadError> {
        self.called();
        let read = self.read(&key);
        self.held_up().await?;
        read
    }
}

/// Loads all keys of a batch in one call. Those that begin with `slow` are answered last, and they
/// alone are held up.
pub struct InBatches(pub Database);

impl BatchLoader for InBatches {
    type Value = Bytes;

    async fn load_many(&self, batch: &Batch<Bytes>) -> Result<(), LoadError> {
        self.0.called();
        for (nth, key) in batch.keys().iter().enumerate() {
            if !key.as_str()?.starts_with("slow") {
                batch.answer(nth, self.0.read(key));
            }
        }
        self.0.held_up().await?;
        for (nth, key) in batch.keys().iter().enumerate() {
            if key.as_str()?.starts_with("slow") {
                batch.answer(nth, self.0.read(key));
            }
        }
        Ok(())
    }
}
