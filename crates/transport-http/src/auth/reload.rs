//! A value that is made from files, and made again when they have changed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
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
    /// The lock of those who look at the files: the others wait for what they say.
    looking: tokio::sync::Mutex<()>,
    /// The words with which the last look failed; they are logged once.
    failure: Mutex<Option<String>>,
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
        let (looking, failure) = (tokio::sync::Mutex::default(), Mutex::default());
        Reload { shared: Arc::new(Shared { what, value, read, last_look, looking, failure }) }
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

    /// Looks at the files now. What cannot be used changes nothing, and the log says so once.
    pub(crate) fn look(&self) {
        let Some(read) = &self.shared.read else { return };
        let what = self.shared.what;
        let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match read(Some(&*self.last())) {
            Ok(None) => *failure = None,
            Ok(Some(value)) => {
                *self.shared.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                *failure = None;
                tracing::info!(what, "read again");
            }
            Err(why) => {
                let why = why.to_string();
                if failure.as_ref() != Some(&why) {
                    tracing::warn!(what, %why, "cannot be read again; what was read before stays in force");
                    *failure = Some(why);
                }
            }
        }
    }

    /// Looks at the files if the last look is long enough ago. One that is due while another looks
    /// waits for that, so that it does not decide by what was read before.
    async fn look_after(&self, interval: Duration) {
        if self.shared.read.is_none() || !self.is_due(interval) {
            return;
        }
        let looking = self.shared.looking.lock().await;
        if self.is_due(interval) {
            let reload = self.clone();
            // Reading files may take its time, which is not the runtime's. An error means that the
            // runtime goes down, and with it the request.
            drop(tokio::task::spawn_blocking(move || reload.look()).await);
            *self.last_look() = Instant::now();
        }
        drop(looking);
    }

    fn is_due(&self, interval: Duration) -> bool {
        self.last_look().elapsed() >= interval
    }

    fn last_look(&self) -> MutexGuard<'_, Instant> {
        self.shared.last_look.lock().unwrap_or_else(PoisonError::into_inner)
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
