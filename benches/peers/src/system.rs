//! A system, as the callers need it.

use std::future::Future;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::setting::{Setting, key};

/// A client that is ready to be asked. The number of the caller chooses its connection, where there
/// are several.
pub trait System: Send + Sync + 'static {
    /// The length of the key's value.
    fn get(&self, caller: usize, key: &str) -> impl Future<Output = Result<usize>> + Send;

    /// The length of all values together. By itself the best one can do where there is no call for
    /// it: all at once.
    fn get_many(&self, caller: usize, keys: &[&str]) -> impl Future<Output = Result<usize>> + Send {
        async move { Ok(try_join_all(keys.iter().map(|key| self.get(caller, key))).await?.iter().sum()) }
    }

    /// Has the server hold values, and returns their keys.
    ///
    /// By itself for systems with an owner for each key. It is asked for keys, and loads what it
    /// owns; what the asking member owns is loaded here, where values are empty.
    fn fill(&self, setting: &Setting) -> impl Future<Output = Result<Vec<String>>> + Send {
        let setting = setting.clone();
        async move {
            let mut keys = Vec::with_capacity(setting.keys);
            for number in 0..100 * setting.keys {
                let key = key(number);
                if self.get(0, &key).await? == setting.value_bytes {
                    keys.push(key);
                }
                if keys.len() == setting.keys {
                    break;
                }
            }
            ensure!(keys.len() == setting.keys, "the other member owns {} keys only", keys.len());
            Ok(keys)
        }
    }

    /// Whether another member owns the key. Asked for keys that are slow to load; a system without
    /// owners has all its keys at the other side.
    fn is_far(&self, _key: &str) -> bool {
        true
    }

    /// Counts the keys that were got from the server up to now, as the system itself counts them.
    fn crossed(&self) -> impl Future<Output = Result<u64>> + Send;
}
