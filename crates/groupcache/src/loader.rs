//! A loader, and the values and errors that it brings.

pub(crate) mod any;
pub(crate) mod batch;
pub(crate) mod blocking;
pub(crate) mod chain;
pub(crate) mod scope;

use std::{fmt, future::Future, time::Duration};

use crate::{
    error::{BoxError, Error, ErrorKind},
    key::Key,
    value::Value,
};

/// Gets a group's values at their origin: a database, an object store, another service.
///
/// A closure is a loader too, by way of [`loader_fn_with`] or [`loader_fn`]. Written out, it is an
/// `async fn`:
///
/// ```
/// use peercache_groupcache::{Key, LoadError, Loaded, Loader};
///
/// struct Files(std::path::PathBuf);
///
/// impl Loader for Files {
///     type Value = String;
///
///     async fn load(&self, key: Key) -> Result<Loaded<String>, LoadError> {
///         let path = self.0.join(key.as_str()?);
///         // Reading a file blocks its thread, which must be none of the runtime's workers.
///         let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await??;
///         Ok(Loaded::new(text))
///     }
/// }
/// ```
///
/// # Loaders that block
/// A loader must not block its thread: callers and peers that the thread would serve wait with it,
/// and the heartbeat that tells a peer that a load is running stops. Give a blocking function to
/// [`blocking_loader_fn`](crate::blocking_loader_fn), or move the blocking part to a thread as above. `load_timeout` bounds
/// the wait of a blocked load's callers all the same, as long as the runtime has another thread
/// for them. In a runtime of one thread nothing can.
///
/// # Loaders that ask a group
/// A loader may ask other groups, and its own group for other keys. If it asks for its own key,
/// itself or by way of other loads that it starts, that get is an error of kind
/// [`RecursiveLoad`](ErrorKind::RecursiveLoad) at once. Two cases are not seen, and end by
/// `load_timeout`: a get in a task that the loader spawns, and a circle of two loads that were
/// started side by side or that runs over another process.
pub trait Loader: Send + Sync + 'static {
    /// The type of the values that it loads and that the group holds.
    type Value: Value;

    /// Loads one key. It runs in a task of its own, which goes on when callers leave; the group's
    /// `load_timeout` ends it. Its [`tracing`] span is that of the caller who started it.
    ///
    /// # Errors
    /// [`LoadError::not_found`] where the origin has no such key; anything else means that the
    /// origin failed.
    fn load(&self, key: Key) -> impl Future<Output = Result<Loaded<Self::Value>, LoadError>> + Send;
}

/// A loaded value, and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) ttl: Option<Duration>,
}

impl<V> Loaded<V> {
    /// Wraps a value that holds for as long as the group says.
    pub fn new(value: V) -> Self {
        Loaded { value, ttl: None }
    }

    /// The time for which it may be answered, at every node, counted from now on. Zero is not
    /// cached at all. Defaults to the group's [`time_to_live`](crate::GroupBuilder::time_to_live).
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// The reason why a load brought no value. Any error turns into one with `?`; for that it is not
/// itself an [`Error`](std::error::Error).
///
/// Our own [`Error`] is recognised. If a loader asks another group, that group's "not found" stays
/// a "not found". So do overload, a value too large, and a load that failed or took too long. Its
/// other errors are a failed load here.
pub struct LoadError(Error);

impl LoadError {
    /// The origin has no such key.
    pub fn not_found() -> Self {
        LoadError(Error::new(ErrorKind::NotFound))
    }

    /// Keeps the kinds that hold for our key as well. A key too long or a time too short was given
    /// by our loader, and is its failure.
    fn of_another_group(error: Error) -> Self {
        use ErrorKind::{LoadFailed, LoadTimedOut, NotFound, Overloaded, RecursiveLoad, ValueTooLarge};
        match error.kind() {
            NotFound | Overloaded | ValueTooLarge | LoadTimedOut | LoadFailed | RecursiveLoad => LoadError(error),
            _ => LoadError(Error::with_source(LoadFailed, error)),
        }
    }

    pub(crate) fn into_error(self) -> Error {
        self.0
    }
}

impl<E: Into<BoxError>> From<E> for LoadError {
    fn from(error: E) -> Self {
        match error.into().downcast::<Error>() {
            Ok(ours) => LoadError::of_another_group(*ours),
            Err(other) => LoadError(Error::with_source(ErrorKind::LoadFailed, other)),
        }
    }
}

impl fmt::Debug for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoadError").field(&self.0).finish()
    }
}

/// A result of a loading closure: a value, or [`Loaded`].
pub trait IntoLoaded: Send {
    /// The value's type.
    type Value: Value;

    /// The value as a loader returns it.
    fn into_loaded(self) -> Loaded<Self::Value>;
}

impl<V: Value> IntoLoaded for V {
    type Value = V;

    fn into_loaded(self) -> Loaded<V> {
        Loaded::new(self)
    }
}

impl<V: Value> IntoLoaded for Loaded<V> {
    type Value = V;

    fn into_loaded(self) -> Loaded<V> {
        self
    }
}

/// A loader from a closure: `loader_fn(|key| async move { Ok(..) })`.
///
/// The closure's future is `'static`, so it owns what it uses; [`loader_fn_with`] hands it a clone
/// of some state for each load.
pub fn loader_fn<F, Fut, T>(load: F) -> LoaderFn<F>
where
    F: Fn(Key) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, LoadError>> + Send + 'static,
    T: IntoLoaded,
{
    LoaderFn(load)
}

/// A loader from some state and a closure:
/// `loader_fn_with(db, |db, key| async move { Ok(db.find(key).await?) })`.
///
/// The state is cloned for each load; keep it in an `Arc` if that is costly.
pub fn loader_fn_with<S, F, Fut, T>(state: S, load: F) -> LoaderFnWith<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Key) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, LoadError>> + Send + 'static,
    T: IntoLoaded,
{
    LoaderFnWith { state, load }
}

/// The loader that [`loader_fn`] makes.
#[derive(Clone, Copy)]
pub struct LoaderFn<F>(F);

/// The loader that [`loader_fn_with`] makes.
#[derive(Clone, Copy)]
pub struct LoaderFnWith<S, F> {
    state: S,
    load: F,
}

impl<F, Fut, T> Loader for LoaderFn<F>
where
    F: Fn(Key) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, LoadError>> + Send + 'static,
    T: IntoLoaded,
{
    type Value = T::Value;

    async fn load(&self, key: Key) -> Result<Loaded<T::Value>, LoadError> {
        (self.0)(key).await.map(T::into_loaded)
    }
}

impl<S, F, Fut, T> Loader for LoaderFnWith<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Key) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, LoadError>> + Send + 'static,
    T: IntoLoaded,
{
    type Value = T::Value;

    async fn load(&self, key: Key) -> Result<Loaded<T::Value>, LoadError> {
        (self.load)(self.state.clone(), key).await.map(T::into_loaded)
    }
}

impl<F> fmt::Debug for LoaderFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoaderFn")
    }
}

impl<S, F> fmt::Debug for LoaderFnWith<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoaderFnWith")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_keeps_its_kind() {
        let error = LoadError::from(Error::new(ErrorKind::NotFound)).into_error();
        assert!(error.is_not_found());
    }

    #[test]
    fn a_deadline_inside_the_loader_is_a_failed_load() {
        let error = LoadError::from(Error::new(ErrorKind::DeadlineExceeded)).into_error();
        assert_eq!(error.kind(), ErrorKind::LoadFailed);
    }

    #[test]
    fn any_other_error_is_a_failed_load() {
        let error = LoadError::from("no route to host").into_error();
        assert_eq!(error.kind(), ErrorKind::LoadFailed);
    }
}
