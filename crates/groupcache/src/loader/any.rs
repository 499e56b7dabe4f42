//! A loader of any type, held and called by the type of its values alone.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    catch_panic::{caught, caught_loading},
    error::{Error, ErrorKind},
    key::Key,
    loader::batch::{Batch, BatchLoader},
    loader::{LoadError, Loaded, Loader},
};

/// A loader of `V`, by whether it takes one key at a time or many.
pub(crate) enum AnyLoader<V> {
    Single(Arc<dyn DynLoader<V>>),
    Batched(Arc<dyn DynBatchLoader<V>>),
}

/// A [`Loader`] whose type is not known.
pub(crate) trait DynLoader<V>: Send + Sync {
    fn start(self: Arc<Self>, key: Key) -> BoxLoad<Loaded<V>>;
}

/// A [`BatchLoader`] whose type is not known.
pub(crate) trait DynBatchLoader<V>: Send + Sync {
    fn start(self: Arc<Self>, batch: Batch<V>) -> BoxLoad<()>;
}

/// A call of a loader.
type BoxLoad<T> = Pin<Box<dyn Future<Output = Result<T, LoadError>> + Send>>;

impl<L: Loader> DynLoader<L::Value> for L {
    fn start(self: Arc<Self>, key: Key) -> BoxLoad<Loaded<L::Value>> {
        Box::pin(async move { self.load(key).await })
    }
}

impl<L: BatchLoader> DynBatchLoader<L::Value> for L {
    fn start(self: Arc<Self>, batch: Batch<L::Value>) -> BoxLoad<()> {
        Box::pin(async move { self.load_many(&batch).await })
    }
}

/// Loads one key. A panic of the loader is an error like any other, and so is a load that takes too
/// long.
pub(crate) async fn load<V>(
    loader: Arc<dyn DynLoader<V>>,
    key: Key,
    load_timeout: Duration,
) -> Result<Loaded<V>, Error> {
    bounded(load_timeout, || loader.start(key)).await
}

/// Loads many keys in one call, bounded as [`load`] is.
pub(crate) async fn load_batch<V>(
    loader: Arc<dyn DynBatchLoader<V>>,
    batch: Batch<V>,
    load_timeout: Duration,
) -> Result<(), Error> {
    bounded(load_timeout, || loader.start(batch)).await
}

async fn bounded<T>(load_timeout: Duration, start: impl FnOnce() -> BoxLoad<T>) -> Result<T, Error> {
    let load = caught("the loader", start)?;
    let loaded = timeout(load_timeout, caught_loading(load)).await;
    loaded.map_err(|_| Error::new(ErrorKind::LoadTimedOut))??.map_err(LoadError::into_error)
}
