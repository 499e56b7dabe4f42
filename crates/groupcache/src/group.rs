//! A handle of a group: everything that a caller can do with it.

use std::fmt;

use crate::{
    answer::{Answer, Cached},
    core::Core,
    get::Get,
    key::Key,
    loader::IntoLoaded,
    many::GetMany,
    peer::update::UpdateError,
    stats::Stats,
    value::Value,
};

/// A named cache with a loader and a byte budget, shared by all members that have a group of this
/// name. A cheap handle: clones are the same group.
pub struct Group<V> {
    core: Core<V>,
}

impl<V: Value> Group<V> {
    pub(crate) fn new(core: Core<V>) -> Self {
        Group { core }
    }

    /// Gets the value of `key`: from the cache, else from the member that owns it, or from the
    /// loader if that is this node. Callers who ask for the key in the meantime share the load.
    ///
    /// The key is anything that is bytes: `"text"`, `&String`, `b"bytes"`, `&Key`. The future needs
    /// a tokio runtime, with time enabled, unless the key is cached.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind). A peer that cannot be reached is none: the value is
    /// then loaded here.
    #[doc(alias = "get_with")]
    pub fn get<'a, K: AsRef<[u8]> + ?Sized>(&'a self, key: &'a K) -> Get<'a, V> {
        Get::new(&self.core, key.as_ref())
    }

    /// Gets many values at once. Cached ones are ready; the others take one exchange with each
    /// owner, and one load there if the group has a [`BatchLoader`](crate::BatchLoader). Each key
    /// has a result of its own, and a slow one holds back no other: [`GetMany::stream`] gives them
    /// as they come.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> GetMany<V> {
        GetMany::new(self.core.clone(), keys.into_iter().map(|key| Key::copy_from(key.as_ref())).collect())
    }

    /// The value that this node has cached for `key`, if it may be answered, fresh or stale.
    /// Nothing is loaded, counted or moved.
    pub fn peek<K: AsRef<[u8]> + ?Sized>(&self, key: &K) -> Option<Answer<V>> {
        self.core.state.peek(key.as_ref())?.answer().ok()
    }

    /// The entries that this node has cached, in no order. They are read shard by shard, so a
    /// change in the meantime shows or does not.
    pub fn snapshot(&self) -> Vec<Cached<V>> {
        self.core.state.snapshot()
    }

    /// Removes `key` on every member. When this is `Ok`, no node answers with a value that was
    /// loaded or set before it began, and loads that were in flight are not cached.
    ///
    /// It needs a tokio runtime, and goes on if the future is dropped.
    ///
    /// # Errors
    /// [`UpdateError::Missed`] names the members that could not be told; all others have removed
    /// it.
    #[doc(alias = "invalidate")]
    pub async fn remove<K: AsRef<[u8]> + ?Sized>(&self, key: &K) -> Result<(), UpdateError> {
        self.core.state.remove(vec![Key::copy_from(key.as_ref())]).await
    }

    /// Removes many keys at once, as [`remove`](Group::remove) does one.
    ///
    /// # Errors
    /// As [`remove`](Group::remove).
    pub async fn remove_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<(), UpdateError> {
        let keys = keys.into_iter().map(|key| Key::copy_from(key.as_ref())).collect();
        self.core.state.remove(keys).await
    }

    /// Removes all keys of the group on every member, with the same promise as
    /// [`remove`](Group::remove).
    ///
    /// # Errors
    /// As [`remove`](Group::remove).
    #[doc(alias = "invalidate_all")]
    pub async fn clear(&self) -> Result<(), UpdateError> {
        self.core.state.clear().await
    }

    /// Sets the value of `key` at its owner, and removes it on all other members. Values that are
    /// set for one key are ordered by its owner. The origin is not written: a later load brings
    /// what the origin holds.
    ///
    /// A value with a time to live of its own is a [`Loaded`](crate::Loaded).
    ///
    /// # Errors
    /// As [`remove`](Group::remove), and [`Refused`](UpdateError::Refused) with
    /// [`ValueTooLarge`](crate::ErrorKind::ValueTooLarge). A value beyond this node's limits changes
    /// nothing. One that the owner does not keep, because it is too large for its budget or would
    /// evict most other values, is removed on all members. If the owner is among those missed, do
    /// not count on the value being anywhere.
    #[doc(alias = "insert")]
    pub async fn set<K, T>(&self, key: &K, value: T) -> Result<(), UpdateError>
    where
        K: AsRef<[u8]> + ?Sized,
        T: IntoLoaded<Value = V>,
    {
        self.core.state.set(Key::copy_from(key.as_ref()), value.into_loaded()).await
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.core.state.name
    }

    /// The counters of the group, and the size of what it holds.
    pub fn stats(&self) -> Stats {
        self.core.state.stats()
    }
}

impl<V> Clone for Group<V> {
    fn clone(&self) -> Self {
        Group { core: self.core.clone() }
    }
}

impl<V> fmt::Debug for Group<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.core.state.name).finish_non_exhaustive()
    }
}
