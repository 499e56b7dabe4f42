//! Another member: its peer, and the delivery of updates that it has missed.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    members::undelivered::{PendingUpdates, Removal, Undelivered},
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
    delivery: Mutex<Delivery>,
}

/// Updates that wait for delivery, and whether a task delivers them.
#[derive(Default)]
struct Delivery {
    undelivered: Undelivered,
    is_running: bool,
}

/// The pause after a failed delivery. Doubled after each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time that a member may take to acknowledge an update that is delivered late.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);

impl Remote {
    pub(crate) fn new(name: String, address: String, peer: Arc<dyn Peer>) -> Self {
        Remote { name, address, peer, delivery: Mutex::default() }
    }

    pub(crate) fn name_and_address(&self) -> (&str, &str) {
        (&self.name, &self.address)
    }

    /// Sends an update and awaits its acknowledgement, for at most `bound`.
    pub(crate) async fn send(&self, update: PeerUpdate, bound: Duration) -> Result<Ack, PeerError> {
        let (sender, receiver) = oneshot::channel();
        // After the timeout the receiver is gone, and a late acknowledgement is dropped.
        self.peer.update(update, bound, Reply::new(move |ack| drop(sender.send(ack))));
        match timeout(bound, receiver).await {
            Ok(Ok(ack)) => ack,
            Ok(Err(_)) => Err(PeerError::failed("the transport dropped the change")),
            Err(_) => Err(PeerError::failed(format!("no acknowledgement within {bound:?}"))),
        }
    }

    /// Whether it has missed no update, or has been told of all.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.lock().undelivered.is_empty()
    }

    /// Whether it has missed an update of this key. If so, its delivery is under way when this
    /// returns.
    pub(crate) fn has_undelivered(self: &Arc<Self>, group: &str, key: &[u8], runtime: &Handle) -> bool {
        let missed = self.lock().undelivered.contains(group, key);
        if missed {
            self.start_delivery(runtime);
        }
        missed
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

    /// Drops what it has missed of these keys: it has acknowledged a newer update of them.
    pub(crate) fn drop_delivered(&self, group: &str, removal: &Removal) {
        self.lock().undelivered.drop_delivered(group, removal);
    }

    /// Starts the delivery of what it has missed, unless that is nothing or a task does it already.
    pub(crate) fn start_delivery(self: &Arc<Self>, runtime: &Handle) {
        // Outside the lock: a runtime that has shut down drops the task here, and its drop locks.
        if self.should_start() {
            let task = DeliveryTask { remote: Arc::downgrade(self), has_ended: false };
            runtime.spawn(task.run());
        }
    }

    /// Whether a task has to be started; it then counts as running.
    fn should_start(&self) -> bool {
        let mut delivery = self.lock();
        !delivery.undelivered.is_empty() && !mem::replace(&mut delivery.is_running, true)
    }

    /// Everything to deliver now. `None` ends the delivery, under the lock: an update that is
    /// queued later starts another.
    fn next_delivery(&self) -> Option<Vec<(Arc<str>, PendingUpdates)>> {
        let mut delivery = self.lock();
        delivery.is_running = !delivery.undelivered.is_empty();
        delivery.is_running.then(|| delivery.undelivered.to_send())
    }

    /// Tries once to deliver, all groups side by side. Returns whether all were delivered.
    async fn deliver(&self, groups: &[(Arc<str>, PendingUpdates)]) -> bool {
        let delivered = join_all(groups.iter().map(|(group, pending)| self.deliver_group(group, pending))).await;
        delivered.into_iter().all(|delivered| delivered)
    }

    async fn deliver_group(&self, group: &Arc<str>, pending: &PendingUpdates) -> bool {
        for (since, change) in pending.changes() {
            // Never zero, which would say that the update is made now.
            let age = since.elapsed().max(Duration::from_millis(1));
            // Without a ring: the update holds whatever list the member has.
            match self.send(PeerUpdate::new(group.clone(), 0, change).age(age), DELIVERY_TIMEOUT).await {
                // A member that cannot take updates, or refuses this one, will not take it the next
                // time either.
                Ok(_) | Err(PeerError::NotCarried | PeerError::Answered(_)) => {}
                Err(PeerError::Failed(cause)) => {
                    tracing::debug!(member = self.name, %group, %cause, "has missed a change and cannot be told yet");
                    return false;
                }
            }
        }
        self.lock().undelivered.drop_sent(group, pending);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that delivers a member's updates. Another can be started once it has ended, in whatever
/// way.
struct DeliveryTask {
    remote: Weak<Remote>,
    /// Whether it found nothing left to deliver. From then on `is_running` may speak of another
    /// task.
    has_ended: bool,
}

impl DeliveryTask {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(remote) = self.remote.upgrade() {
            let Some(groups) = remote.next_delivery() else {
                self.has_ended = true;
                return;
            };
            if remote.deliver(&groups).await {
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
            remote.lock().is_running = false;
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
        let remote = Arc::new(Remote::new("b".to_owned(), "b".to_owned(), Arc::new(Silent)));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            remote.queue(&"group".into(), &Removal::All, &handle);
            sender.send((remote.is_up_to_date(), remote.lock().is_running)).expect("the test is listening");
        });
        let queued = receiver.recv_timeout(Duration::from_secs(10));
        assert_eq!(queued, Ok((false, false)), "the update stays, and another task can be started");
    }
}
