//! Loaders that block their thread: they run on the runtime's threads for such work.

use std::{fmt, sync::Arc};

use crate::{
    key::Key,
    loader::scope::LoadScope,
    loader::{IntoLoaded, LoadError, Loaded, Loader},
};

/// A loader from a closure that blocks its thread: `blocking_loader_fn(|key|
/// Ok(read_file(&key)?))`.
///
/// It runs on tokio's threads for blocking work, of which a runtime has 512 by default; a load
/// waits for a free one. `load_timeout` ends the wait of the callers, but no thread can be stopped.
/// So the load's permit of
/// [`max_concurrent_loads`](crate::GroupBuilder::max_concurrent_loads) stays taken until the
/// closure has returned. A panic is an error of the load.
pub fn blocking_loader_fn<F, T>(load: F) -> BlockingLoaderFn<F>
where
    F: Fn(Key) -> Result<T, LoadError> + Send + Sync + 'static,
    T: IntoLoaded + 'static,
{
    BlockingLoaderFn(Arc::new(load))
}

/// A loader from some state and a closure that blocks its thread:
/// `blocking_loader_fn_with(pool, |pool, key| Ok(pool.get()?.find(&key)?))`.
///
/// The closure borrows the state, which all loads share. Otherwise it is as
/// [`blocking_loader_fn`] has it.
pub fn blocking_loader_fn_with<S, F, T>(
    state: S,
    load: F,
) -> BlockingLoaderFn<impl Fn(Key) -> Result<T, LoadError> + Send + Sync + 'static>
where
    S: Send + Sync + 'static,
    F: Fn(&S, Key) -> Result<T, LoadError> + Send + Sync + 'static,
    T: IntoLoaded + 'static,
{
    blocking_loader_fn(move |key| load(&state, key))
}

/// The loader that [`blocking_loader_fn`] makes.
pub struct BlockingLoaderFn<F>(Arc<F>);

impl<F, T> Loader for BlockingLoaderFn<F>
where
    F: Fn(Key) -> Result<T, LoadError> + Send + Sync + 'static,
    T: IntoLoaded + 'static,
{
    type Value = T::Value;

    async fn load(&self, key: Key) -> Result<Loaded<T::Value>, LoadError> {
        let (load, scope) = (self.0.clone(), LoadScope::current());
        let loading = tokio::task::spawn_blocking(move || scope.run_blocking(|| load(key)));
        match loading.await {
            Ok(loaded) => loaded.map(T::into_loaded),
            // It is caught where panics of loaders are.
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(gone) => Err(LoadError::from(gone)),
        }
    }
}

impl<F> Clone for BlockingLoaderFn<F> {
    fn clone(&self) -> Self {
        BlockingLoaderFn(self.0.clone())
    }
}

impl<F> fmt::Debug for BlockingLoaderFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockingLoaderFn")
    }
}
