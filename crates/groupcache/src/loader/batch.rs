//! A loader of many keys in one call, and the batch that it answers.

use std::{fmt, future::Future};

use crate::{
    key::Key,
    loader::{LoadError, Loaded},
    value::Value,
};

/// Gets many values at once from an origin that can answer a hundred keys in one query.
///
/// [`Group::get_many`](crate::Group::get_many) calls it once at each owner, for all keys that are
/// to be loaded there; a [`get`](crate::Group::get) calls it with one key. Start such a group with
/// [`Groups::group_batched`](crate::Groups::group_batched).
///
/// ```
/// use peercache_groupcache::{Batch, BatchLoader, LoadError, Loaded};
///
/// struct Squares;
///
/// impl BatchLoader for Squares {
///     type Value = String;
///
///     async fn load_many(&self, batch: &Batch<String>) -> Result<(), LoadError> {
///         for (nth, key) in batch.keys().iter().enumerate() {
///             let square = key.as_str()?.parse::<u64>()?.pow(2);
///             batch.answer(nth, Ok(Loaded::new(square.to_string())));
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait BatchLoader: Send + Sync + 'static {
    /// The type of the values that it loads and that the group holds.
    type Value: Value;

    /// Loads the keys of `batch`, and answers each as soon as it is known: its waiters go on at
    /// once. It runs in a task of its own under the group's `load_timeout`. Keys that are not
    /// answered when it returns are "not found".
    ///
    /// # Errors
    /// The origin failed. All keys that are not answered yet get this error.
    fn load_many(&self, batch: &Batch<Self::Value>) -> impl Future<Output = Result<(), LoadError>> + Send;
}

/// The keys of one [`BatchLoader::load_many`], and where their answers go.
pub struct Batch<V> {
    keys: Vec<Key>,
    answer: Box<Answering<V>>,
}

type Answering<V> = dyn Fn(usize, Result<Loaded<V>, LoadError>) + Send + Sync;

impl<V: Value> Batch<V> {
    /// Creates a batch whose answers go to `answer`, with their positions. Useful to a loader's own
    /// tests.
    pub fn new(keys: Vec<Key>, answer: impl Fn(usize, Result<Loaded<V>, LoadError>) + Send + Sync + 'static) -> Self {
        Batch { keys, answer: Box::new(answer) }
    }

    /// The keys to load, none twice.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Answers the key at this position. The first answer to a key counts; a position that is not
    /// there is ignored.
    pub fn answer(&self, position: usize, answer: Result<Loaded<V>, LoadError>) {
        if position < self.keys.len() {
            (self.answer)(position, answer);
        }
    }
}

impl<V> fmt::Debug for Batch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}
