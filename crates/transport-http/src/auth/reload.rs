//! A value that is made from files, and made again when they have changed.
//!
//! Files may lie on a disk that hangs, and requests must not wait for it: a look at them is made
//! aside, on a thread for what blocks, by one request at a time. The others, and the one that began
//! it, wait for a moment only, and go on with the value of before.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use peercache_groupcache::BoxError;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// The time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The same when somebody names what is not known here yet: strangers have the files read ten times
/// a second.
const EARLY_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The longest time that a look is waited for, from its beginning on. One at a healthy disk takes
/// less than a thousandth of it.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// The value, and how it is made again. A cheap handle.
pub(crate) struct Reload<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    /// The name of the value in the log.
    what: &'static str,
    value: RwLock<Arc<T>>,
    read: Option<Read<T>>,
    looks: Mutex<Looks>,
    /// The words with which the last look failed; they are logged once.
    failure: Mutex<Option<String>>,
}

/// The looks at the files.
struct Looks {
    /// The time at which the last one ended.
    last: Instant,
    /// The one that is being made: when it began, and a channel that closes when it ends.
    in_progress: Option<(Instant, watch::Receiver<()>)>,
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
        let looks = Mutex::new(Looks { last: Instant::now(), in_progress: None });
        let (value, failure) = (RwLock::new(Arc::new(value)), Mutex::default());
        Reload { shared: Arc::new(Shared { what, value, read, looks, failure }) }
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
        if self.shared.read.is_none() {
            return;
        }
        let Some((began, mut end)) = self.begin_look(interval) else { return };
        let left = MAX_WAIT.saturating_sub(began.elapsed());
        if !left.is_zero() {
            // Nothing is sent: the channel closes at the end.
            let _ = timeout(left, end.changed()).await;
        }
    }

    /// The look to wait for, which is begun if none is under way; `None` if none is due.
    fn begin_look(&self, interval: Duration) -> Option<(Instant, watch::Receiver<()>)> {
        let (began, (sender, end)) = (Instant::now(), watch::channel(()));
        {
            let mut looks = self.shared.looks();
            if looks.in_progress.is_some() || looks.last.elapsed() < interval {
                return looks.in_progress.clone();
            }
            looks.in_progress = Some((began, end.clone()));
        }
        let look = Look { reload: self.clone(), _sender: sender };
        tokio::task::spawn_blocking(move || look.reload.look());
        Some((began, end))
    }
}

/// A look that is being made. Dropping it ends it, also in a runtime that goes down.
struct Look<T: Send + Sync + 'static> {
    reload: Reload<T>,
    _sender: watch::Sender<()>,
}

impl<T: Send + Sync + 'static> Drop for Look<T> {
    fn drop(&mut self) {
        let ended = {
            let mut looks = self.reload.shared.looks();
            looks.last = Instant::now();
            looks.in_progress.take()
        };
        drop(ended);
    }
}

impl<T> Shared<T> {
    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A value whose files are read by the test: each look waits for what they say.
    fn by_hand() -> (Reload<u32>, mpsc::Sender<u32>) {
        let (sender, receiver) = mpsc::channel();
        let receiver = Mutex::new(receiver);
        sender.send(1).unwrap();
        let read = move |_: Option<&u32>| Ok(receiver.lock().unwrap().recv().ok());
        (Reload::new("numbers", read).unwrap(), sender)
    }

    /// Time that is paused stands still while a thread for what blocks is at work.
    async fn a_look_is_due() {
        tokio::time::advance(LOOK_INTERVAL).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_is_waited_for() {
        let (reload, files) = by_hand();
        assert_eq!(*reload.current().await, 1);
        files.send(2).unwrap();
        assert_eq!(*reload.current().await, 1, "no look is due");
        a_look_is_due().await;
        let (one, other) = tokio::join!(reload.current(), reload.current());
        assert_eq!((*one, *other), (2, 2), "and one look is enough");
    }

    #[test]
    fn a_disk_that_hangs_keeps_nobody_waiting() {
        // Real time: that of the test's runtime would not go on while a thread blocks.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (reload, files) = by_hand();
        reload.shared.looks().last -= LOOK_INTERVAL;
        runtime.block_on(async {
            assert_eq!(*reload.current().await, 1);
            // The look is still under way, and was waited for long enough.
            reload.shared.looks().in_progress.as_mut().unwrap().0 -= MAX_WAIT;
            let next = std::pin::pin!(reload.current());
            let at_once = futures_util::FutureExt::now_or_never(next);
            assert_eq!(at_once.map(|value| *value), Some(1));
            let (_, mut end) = reload.shared.looks().in_progress.clone().unwrap();
            files.send(2).unwrap();
            end.changed().await.unwrap_err();
            assert_eq!(*reload.current().await, 2);
            assert!(reload.shared.looks().in_progress.is_none());
        });
    }

    #[test]
    fn a_look_in_a_runtime_that_goes_down_is_over() {
        let (reload, files) = by_hand();
        let gone = tokio::runtime::Builder::new_current_thread().build().unwrap().handle().clone();
        reload.shared.looks().last -= LOOK_INTERVAL;
        {
            let _entered = gone.enter();
            drop(reload.begin_look(LOOK_INTERVAL));
        }
        assert!(reload.shared.looks().in_progress.is_none());
        drop(files);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_changes_nothing() {
        let is_first = std::sync::atomic::AtomicBool::new(true);
        let reload = Reload::new("numbers", move |_| {
            if is_first.swap(false, std::sync::atomic::Ordering::Relaxed) { Ok(Some(1)) } else { Err("gone".into()) }
        });
        let reload = reload.unwrap();
        for _ in 0..3 {
            a_look_is_due().await;
            assert_eq!(*reload.current().await, 1);
        }
    }
}
