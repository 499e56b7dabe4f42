//! A value that is made from files, and made again when they have changed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use peercache_groupcache::BoxError;
use tokio::time::Instant;

/// The time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The same when somebody names what is not known here yet: strangers have the files read ten times
/// a second.
const EARLY_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The value, and how it is made again. A cheap handle.
pub(crate) struct Reload<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    /// The name of the value in the log.
    what: &'static str,
    value: RwLock<Arc<T>>,
    read: Option<Read<T>>,
    last_look: Mutex<Instant>,
}

/// Makes the value from the files; `None` if they say what they said before.
type Read<T> = Box<dyn Fn(Option<&T>) -> Result<Option<T>, BoxError> + Send + Sync>;

impl<T: Send + Sync + 'static> Reload<T> {
    /// A value that stays.
    pub(crate) fn fixed(what: &'static str, value: T) -> Self {
        Reload::with(what, value, None)
    }

    /// A value that `read` makes, now and later.
    pub(crate) fn new(
        what: &'static str,
        read: impl Fn(Option<&T>) -> Result<Option<T>, BoxError> + Send + Sync + 'static,
    ) -> Result<Self, BoxError> {
        let value = read(None)?.expect("what is read first is new");
        Ok(Reload::with(what, value, Some(Box::new(read))))
    }

    fn with(what: &'static str, value: T, read: Option<Read<T>>) -> Self {
        let (value, last_look) = (RwLock::new(Arc::new(value)), Mutex::new(Instant::now()));
        Reload { shared: Arc::new(Shared { what, value, read, last_look }) }
    }

    /// The value as it was last made.
    pub(crate) fn last(&self) -> Arc<T> {
        self.shared.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The value, after a look at the files if the last one is a second ago.
    pub(crate) async fn current(&self) -> Arc<T> {
        self.look_after(LOOK_INTERVAL).await;
        self.last()
    }

    /// The value after an early look at the files.
    pub(crate) async fn current_early(&self) -> Arc<T> {
        self.look_after(EARLY_LOOK_INTERVAL).await;
        self.last()
    }

    /// Looks at the files now. What cannot be used changes nothing, and the log says so.
    pub(crate) fn look(&self) {
        let Some(read) = &self.shared.read else { return };
        let what = self.shared.what;
        match read(Some(&*self.last())) {
            Ok(None) => {}
            Ok(Some(value)) => {
                *self.shared.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(what, "read again");
            }
            Err(why) => tracing::warn!(what, %why, "cannot be read again; what was read before stays in force"),
        }
    }

    async fn look_after(&self, interval: Duration) {
        if self.shared.read.is_some() && self.is_due(interval) {
            let reload = self.clone();
            // Reading files may take its time, which is not the runtime's. An error means that the
            // runtime goes down, and with it the request.
            drop(tokio::task::spawn_blocking(move || reload.look()).await);
        }
    }

    fn is_due(&self, interval: Duration) -> bool {
        let mut last_look = self.shared.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last_look.elapsed() >= interval;
        if is_due {
            *last_look = Instant::now();
        }
        is_due
    }
}

impl<T> Clone for Reload<T> {
    fn clone(&self) -> Self {
        Reload { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for Reload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("what", &self.shared.what).finish_non_exhaustive()
    }
}
