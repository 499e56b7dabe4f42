//! Another member: its peer, and the delivery of updates that it has missed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    members::failure_log::FailureLog,
    members::followers::Followers,
    members::member::PeerStatus,
    members::undelivered::{Pending, Removal, Undelivered},
    members::watch::{Seen, Watch},
    peer::update::{Ack, PeerUpdate},
    peer::{Peer, PeerError, Reply},
};

/// Another member.
///
/// It may still hold values that an update has removed, if it has missed that update. So it is not
/// asked for those keys before the update has been delivered, which a task sees to.
pub(crate) struct Remote {
    pub(crate) name: String,
    /// The URL at which `peer` reaches it.
    pub(crate) address: String,
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) failures: FailureLog,
    pub(crate) watch: Arc<Watch>,
    delivery: Mutex<Delivery>,
    /// The time at which it was last tried, if its last exchange failed by silence.
    silent: Mutex<Option<Instant>>,
}

/// Updates that wait for delivery, and the task that delivers them.
#[derive(Default)]
struct Delivery {
    undelivered: Undelivered,
    running: Option<Running>,
    /// The number of tasks so far.
    tasks: u64,
}

/// The task that delivers now.
struct Running {
    nth: u64,
    runtime: Id,
    /// The time at which it last went on.
    since: Instant,
}

/// The wait from which a failure is a silence. One that comes at once is none: it costs nobody
/// time, and the member may be there, such as one that has no such group.
const SILENCE: Duration = Duration::from_millis(100);

/// The time after a silence for which a member is known not to answer.
const KNOWN_ABSENT: Duration = Duration::from_secs(1);

/// The groups of which updates are delivered to one member at once.
const MAX_DELIVERIES: usize = 8;

/// The time after which a task that has not gone on is taken to be in a runtime that nobody drives,
/// if another runtime has work for it: longer than its pause and a delivery.
const STALLED_AFTER: Duration = Duration::from_secs(4);

/// The pause after a failed delivery. Doubled after each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time that a member may take to acknowledge an update that is delivered late.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);

impl Remote {
    pub(crate) fn new(name: String, address: String, peer: Arc<dyn Peer>, followers: Followers) -> Self {
        Remote {
            watch: Watch::new(name.clone(), peer.clone(), followers),
            name,
            address,
            peer,
            failures: FailureLog::default(),
            delivery: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    pub(crate) fn name_and_address(&self) -> (&str, &str) {
        (&self.name, &self.address)
    }

    /// Its name and its health.
    pub(crate) fn status(&self) -> PeerStatus {
        let Seen { state, since, why } = self.watch.seen();
        PeerStatus { name: self.name.clone(), state, since, why, undelivered: self.lock().undelivered.len() }
    }

    /// Records how an exchange with this member ended that began then. If it is down now, it is
    /// probed in this runtime.
    pub(crate) fn note_exchange<T>(&self, ended: &Result<T, PeerError>, began: Instant, runtime: Option<&Handle>) {
        self.watch.observe(ended, began, runtime);
        let has_failed = ended.as_ref().is_err_and(PeerError::is_failure);
        let now = Instant::now();
        if !has_failed {
            *self.silent() = None;
        } else if now.duration_since(began) >= SILENCE {
            *self.silent() = Some(now);
        }
    }

    /// Whether it is known not to answer: it was silent in its last exchange, nothing has succeeded
    /// since, and it was tried within the last second. Nobody needs to wait to learn that again.
    pub(crate) fn is_known_absent(&self) -> bool {
        self.silent().is_some_and(|tried| tried.elapsed() < KNOWN_ABSENT)
    }

    fn silent(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an update and awaits its acknowledgement, for at most `bound`.
    pub(crate) async fn send(&self, update: PeerUpdate, bound: Duration) -> Result<Ack, PeerError> {
        let (sender, receiver) = oneshot::channel();
        let began = Instant::now();
        // What is known of it lasts until this try has an outcome.
        if let Some(tried) = &mut *self.silent() {
            *tried = began;
        }
        // After the timeout the receiver is gone, and a late acknowledgement is dropped.
        self.peer.update(update, bound, Reply::new(move |ack| drop(sender.send(ack))));
        let ack = match timeout(bound, receiver).await {
            Ok(Ok(ack)) => ack,
            Ok(Err(_)) => Err(PeerError::failed("the transport dropped the change")),
            Err(_) => Err(PeerError::failed(format!("no acknowledgement within {bound:?}"))),
        };
        self.note_exchange(&ack, began, Some(&Handle::current()));
        ack
    }

    /// Sends an update to a member that is known not to answer, and waits for nothing.
    pub(crate) fn send_unawaited(self: &Arc<Self>, update: PeerUpdate, bound: Duration) {
        let (remote, began) = (Arc::downgrade(self), Instant::now());
        let answered = move |ack: Result<Ack, PeerError>| {
            if let Some(remote) = remote.upgrade() {
                remote.note_exchange(&ack, began, Handle::try_current().ok().as_ref());
            }
        };
        self.peer.update(update, bound, Reply::new(answered));
    }

    /// Whether it has missed no update, or has been told of all.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.lock().undelivered.is_empty()
    }

    /// The number of changes of this group that it has missed.
    pub(crate) fn undelivered(&self, group: &str) -> usize {
        self.lock().undelivered.len_of(group)
    }

    /// Whether it has missed an update of this key. If it has missed any, its delivery is under way
    /// when this returns.
    pub(crate) fn has_undelivered(self: &Arc<Self>, group: &str, key: &[u8], runtime: &Handle) -> bool {
        let (is_any, is_this) = {
            let delivery = self.lock();
            (!delivery.undelivered.is_empty(), delivery.undelivered.contains(group, key))
        };
        if is_any {
            self.start_delivery(runtime);
        }
        is_this
    }

    /// Keeps an update that it has missed, and starts its delivery.
    pub(crate) fn queue(self: &Arc<Self>, group: &Arc<str>, removal: &Removal, runtime: &Handle) {
        self.add_undelivered(group, removal);
        self.start_delivery(runtime);
    }

    /// Keeps an update that it has missed.
    pub(crate) fn add_undelivered(&self, group: &Arc<str>, removal: &Removal) {
        self.lock().undelivered.add(group, removal, Instant::now());
    }

    /// Drops what it had missed of these keys before `began`: it has acknowledged an update of them
    /// that began then.
    pub(crate) fn drop_delivered(&self, group: &Arc<str>, removal: &Removal, began: Instant) {
        self.lock().undelivered.drop_delivered(group, removal, began);
    }

    /// Starts the delivery of what it has missed, unless that is nothing or a task does it already.
    pub(crate) fn start_delivery(self: &Arc<Self>, runtime: &Handle) {
        // Outside the lock: a runtime that has shut down drops the task here, and its drop locks.
        if let Some(nth) = self.next_task(runtime.id()) {
            let task = DeliveryTask { remote: Arc::downgrade(self), nth, has_ended: false };
            runtime.spawn(task.run());
        }
    }

    /// The number of a task that has to be started; it then counts as running.
    fn next_task(&self, runtime: Id) -> Option<u64> {
        let mut delivery = self.lock();
        let stands_still = |running: &Running| running.runtime != runtime && running.since.elapsed() >= STALLED_AFTER;
        if delivery.undelivered.is_empty() || delivery.running.as_ref().is_some_and(|running| !stands_still(running)) {
            return None;
        }
        delivery.tasks += 1;
        delivery.running = Some(Running { nth: delivery.tasks, runtime, since: Instant::now() });
        Some(delivery.tasks)
    }

    /// Everything that this task has to deliver now. `None` ends it, under the lock: an update that
    /// is queued later starts another.
    fn next_delivery(&self, nth: u64) -> Option<Vec<(Arc<str>, Vec<Pending>)>> {
        let mut delivery = self.lock();
        let running = delivery.running.as_mut().filter(|running| running.nth == nth)?;
        running.since = Instant::now();
        if delivery.undelivered.is_empty() {
            delivery.running = None;
            return None;
        }
        Some(delivery.undelivered.to_send())
    }

    /// Tries once to deliver: groups side by side, and the updates of one in their order. Returns
    /// whether all were delivered.
    async fn deliver(&self, groups: Vec<(Arc<str>, Vec<Pending>)>) -> bool {
        let deliver_group = |(group, pending): (Arc<str>, Vec<Pending>)| async move {
            for pending in &pending {
                if !self.deliver_one(&group, pending).await {
                    return false;
                }
            }
            true
        };
        let mut delivering = stream::iter(groups).map(deliver_group).buffer_unordered(MAX_DELIVERIES);
        let mut are_delivered = true;
        while let Some(is_delivered) = delivering.next().await {
            are_delivered &= is_delivered;
        }
        are_delivered
    }

    async fn deliver_one(&self, group: &Arc<str>, pending: &Pending) -> bool {
        // Never zero, which would say that the update is made now.
        let age = pending.since.elapsed().max(Duration::from_millis(1));
        // Without a ring: the update holds whatever list the member has.
        let update = PeerUpdate::new(group.clone(), 0, pending.removal.change()).age(age);
        match self.send(update, DELIVERY_TIMEOUT).await {
            // A member that cannot take updates, or refuses this one, will not take it the next
            // time either.
            Ok(_) | Err(PeerError::NotCarried | PeerError::Answered(_)) => {
                self.lock().undelivered.drop_sent(group, pending);
                true
            }
            Err(PeerError::Failed(cause) | PeerError::Unreachable(cause) | PeerError::Silent(cause)) => {
                tracing::debug!(member = self.name, %group, %cause, "has missed a change and cannot be told yet");
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that delivers a member's updates. Another can be started once it has ended, in whatever
/// way.
struct DeliveryTask {
    remote: Weak<Remote>,
    nth: u64,
    /// Whether it found nothing left to deliver, or another task in its place.
    has_ended: bool,
}

impl DeliveryTask {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(remote) = self.remote.upgrade() {
            let Some(groups) = remote.next_delivery(self.nth) else {
                self.has_ended = true;
                return;
            };
            if remote.deliver(groups).await {
                pause = FIRST_PAUSE;
                continue;
            }
            // Not held during the pause: a member that leaves the list gets no more deliveries.
            drop(remote);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Drop for DeliveryTask {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(remote) = self.remote.upgrade()
        {
            let mut delivery = remote.lock();
            delivery.running = delivery.running.take().filter(|running| running.nth != self.nth);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use tokio::runtime::Builder;

    use super::*;
    use crate::peer::PeerRequest;

    struct Silent;

    impl Peer for Silent {
        fn get(&self, _: PeerRequest, reply: Reply) {
            drop(reply);
        }
    }

    /// A runtime that has shut down drops a new task at once, in the thread that starts it.
    #[test]
    fn an_update_is_queued_without_a_deadlock_after_the_runtime_has_shut_down() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let handle = runtime.handle().clone();
        drop(runtime);
        let remote = Arc::new(Remote::new("b".to_owned(), "b".to_owned(), Arc::new(Silent), Followers::default()));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            remote.queue(&"group".into(), &Removal::All, &handle);
            sender.send((remote.is_up_to_date(), remote.lock().running.is_some())).expect("the test is listening");
        });
        let queued = receiver.recv_timeout(Duration::from_secs(10));
        assert_eq!(queued, Ok((false, false)), "the update stays, and another task can be started");
    }
}
