use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    Error, ErrorKind, Get, Served, ServedGroup, Stats, Value,
    cache::Reader,
    core::{Core, Departure},
};

/// A named cache with a loader and a byte budget, shared by all members that have a group of this name. A cheap handle:
/// clones are the same group.
pub struct Group<V> {
    core: Arc<Core<V>>,
}

impl<V: Value> Group<V> {
    pub(crate) fn new(core: Arc<Core<V>>) -> Self {
        Group { core }
    }

    /// Gets the value of `key`: from the cache, or else from the member that owns it, or from the loader if that is this
    /// node. Whoever asks for the key meanwhile shares the load.
    ///
    /// The key is anything that is bytes: `"text"`, `&String`, `b"bytes"`, `&Key`. The future needs a tokio runtime, with
    /// time enabled, unless the key is cached.
    ///
    /// # Errors
    /// See [`ErrorKind`]. A peer that cannot be reached is none: the value is then loaded here.
    pub fn get<'a, K: AsRef<[u8]> + ?Sized>(&'a self, key: &'a K) -> Get<'a, V> {
        Get::new(&self.core, key.as_ref())
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// What the group has done so far, and what it holds.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl<V: Value> ServedGroup for Core<V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, key: &[u8]) -> Served {
        self.counters.server_requests.count();
        if let Some(hit) = self.look_up(key, Reader::Peer) {
            return Served::Ready(encode(&hit.value));
        }
        match self.depart_for_peer(key) {
            Departure::Landed(outcome) => Served::Ready(outcome.and_then(|answer| encode(&answer.value))),
            waiting => Served::Loading(Box::pin(async move {
                let answer = waiting.outcome().await?;
                encode(&answer.value)
            })),
        }
    }
}

fn encode<V: Value>(value: &V) -> Result<Bytes, Error> {
    value.encode().map_err(|cause| Error::with_source(ErrorKind::Codec, cause))
}

impl<V> Clone for Group<V> {
    fn clone(&self) -> Self {
        Group { core: self.core.clone() }
    }
}

impl<V> fmt::Debug for Group<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.core.name).finish_non_exhaustive()
    }
}
