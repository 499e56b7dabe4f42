//! The requests to one peer that wait, and natural batching: which of them leave when, and
//! together.
//!
//! A lone key leaves at once. While a batch of its group is on its way, which is until the head of
//! its answer is there, further keys collect; then they leave together. There is no timer in it,
//! and under light load no key waits.

use std::{
    collections::VecDeque,
    iter, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use peercache_groupcache::{Ack, PeerError, PeerRequest, PeerUpdate, Reply};
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

use crate::client::{
    batch::{Batch, Received},
    connection::MAX_IDLE,
    failure::{Failure, RequestError},
    group_queue::GroupQueue,
    peer_state::PeerState,
    pending::{Pending, PendingCount, fail_all},
    protocol_state::Protocol,
};

/// The updates that are sent to one peer at once. They are short; a few connections carry many.
const MAX_CONCURRENT_UPDATES: usize = 16;

/// The updates for one peer that may be in flight or waiting. One too many fails at once: they come
/// faster than the peer can take them.
const MAX_UPDATES: usize = 1_024;

/// The keys and updates for one peer that wait, and the workers that send them.
pub(super) struct RequestQueue {
    peer: Arc<PeerState>,
    start_worker: StartWorker,
    pending: Arc<PendingCount>,
    state: Mutex<State>,
}

/// Starts a worker with its first job.
pub(super) type StartWorker = fn(&Handle, Arc<RequestQueue>, Job);

#[derive(Default)]
struct State {
    groups: Vec<GroupQueue>,
    /// The index of the group that is looked at first: groups take turns.
    next_group: usize,
    batches_in_flight: usize,
    updates: VecDeque<PendingUpdate>,
    updates_in_flight: usize,
    /// Idle workers. The one that became idle last is used first, so that the rest may end.
    idle: Vec<WorkerHandle>,
    /// Keys that have waited for too long, to be answered when the lock is free.
    expired: Vec<Pending>,
}

/// An update that waits, and where its acknowledgement goes.
pub(super) struct PendingUpdate {
    pub(super) update: PeerUpdate,
    pub(super) timeout: Duration,
    pub(super) since: Instant,
    pub(super) reply: Reply<Ack>,
}

/// The work of a worker: one batch, or one update.
pub(super) enum Job {
    Fetch(Batch, InFlight),
    Update(PendingUpdate, UpdateInFlight),
    /// Opens the connection for a request that is to come.
    Connect,
}

/// Gives an idle worker a job.
///
/// The queue has the only handle of an idle worker, so that workers end with their peer. A job
/// brings the handle back to the worker.
#[derive(Clone)]
pub(super) struct WorkerHandle(pub(super) mpsc::Sender<(Job, WorkerHandle)>);

/// A batch in flight. It ends when this is dropped, at the latest.
pub(super) struct InFlight {
    queue: Arc<RequestQueue>,
    /// The index of its group.
    group: usize,
    /// Whether the keys of its group wait for it.
    blocks_group: bool,
    has_ended: bool,
}

/// A batch that has ended, which the queue does not know yet.
pub(super) struct Finished {
    in_flight: InFlight,
    received: Received,
}

/// An update in flight, until this is dropped.
pub(super) struct UpdateInFlight(Arc<RequestQueue>);

/// The next step of a worker without a job.
pub(super) enum Idle {
    Waits,
    Ends,
}

impl RequestQueue {
    pub(super) fn new(peer: Arc<PeerState>, start_worker: StartWorker) -> Self {
        let pending = PendingCount::new(peer.config.max_fetches);
        RequestQueue { peer, start_worker, pending, state: Mutex::default() }
    }

    pub(super) fn peer(&self) -> &Arc<PeerState> {
        &self.peer
    }

    /// Asks for one key as soon as possible.
    pub(super) fn fetch(self: &Arc<Self>, request: PeerRequest, reply: Reply) {
        let Some(counted) = self.pending.count() else {
            return reply.send(Err(self.peer.error(RequestError::overloaded())));
        };
        let pending = Pending::new(request, reply, Instant::now(), counted);
        let mut state = self.state();
        let group = state.group(&pending.request.group);
        state.groups[group].waiting.push_back(pending);
        self.dispatch(state);
    }

    /// Asks for these keys of one group as soon as possible. Keys beyond the most that may be
    /// pending are answered as overload.
    pub(super) fn fetch_many(self: &Arc<Self>, requests: Vec<(PeerRequest, Reply)>) {
        let since = Instant::now();
        let (mut accepted, mut excess) = (Vec::with_capacity(requests.len()), Vec::new());
        for (request, reply) in requests {
            match self.pending.count() {
                Some(counted) => accepted.push(Pending::new(request, reply, since, counted)),
                None => excess.push(reply),
            }
        }
        if let Some(first) = accepted.first() {
            let mut state = self.state();
            let group = state.group(&first.request.group);
            state.groups[group].waiting.extend(accepted);
            self.dispatch(state);
        }
        let overloaded = |reply: Reply| reply.send(Err(self.peer.error(RequestError::overloaded())));
        excess.into_iter().for_each(overloaded);
    }

    /// Asks once more for these keys of one group, before all others.
    pub(super) fn fetch_again(self: &Arc<Self>, pending: Vec<Pending>) {
        let mut state = self.state();
        let Some(first) = pending.first() else { return };
        let group = state.group(&first.request.group);
        pending.into_iter().rev().for_each(|pending| state.groups[group].waiting.push_front(pending));
        self.dispatch(state);
    }

    /// Sends the update as soon as possible.
    pub(super) fn update(self: &Arc<Self>, update: PendingUpdate) {
        let mut state = self.state();
        if state.updates.len() + state.updates_in_flight >= MAX_UPDATES {
            drop(state);
            return update.reply.send(Err(PeerError::failed(self.peer.failure(Failure::TooManyUpdates))));
        }
        state.updates.push_back(update);
        self.dispatch(state);
    }

    /// Opens a connection for the first request, if there is a runtime and no connection yet.
    pub(super) fn connect_ahead(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let has_none = |state: &State| state.idle.is_empty() && state.batches_in_flight == 0;
        if has_none(&self.state()) {
            (self.start_worker)(&runtime, self.clone(), Job::Connect);
        }
    }

    /// Fails the keys that wait: the peer was found silent or out of reach, and they need not find
    /// it out again.
    pub(super) fn fail_waiting(&self) {
        let waiting = self.state().take_waiting();
        if !waiting.is_empty() {
            fail_all(&self.peer, waiting, Failure::SilentMeanwhile.into());
        }
    }

    /// The next job of a worker that has done one. Without a job it is idle, or, if enough workers
    /// are idle, it ends.
    pub(super) fn next_job(
        self: &Arc<Self>,
        finished: Option<Finished>,
        worker: WorkerHandle,
    ) -> Result<(Job, WorkerHandle), Idle> {
        let mut state = self.state();
        if let Some(finished) = finished {
            finished.record(&mut state);
        }
        let next = match state.next_job(self) {
            Some(job) => Ok((job, worker)),
            None if state.idle.len() < MAX_IDLE => {
                state.idle.push(worker);
                Err(Idle::Waits)
            }
            None => Err(Idle::Ends),
        };
        // The end of one batch may let several others leave.
        self.dispatch(state);
        next
    }

    /// Takes this worker from the idle ones; `false` when it has just been given a job.
    pub(super) fn remove_idle(&self, worker: &mpsc::WeakSender<(Job, WorkerHandle)>) -> bool {
        let mut state = self.state();
        let Some(worker) = worker.upgrade() else { return false };
        let place = state.idle.iter().position(|idle| worker.same_channel(&idle.0));
        place.map(|place| state.idle.remove(place)).is_some()
    }

    /// Gives all that may leave now to workers.
    fn dispatch<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        loop {
            let first = state.next_assignment(self);
            let rest: Vec<_> = iter::from_fn(|| state.next_assignment(self)).collect();
            let expired = mem::take(&mut state.expired);
            drop(state);
            let jobs = first.into_iter().chain(rest);
            let failed: Vec<Finished> = jobs.filter_map(|(idle, job)| self.assign(idle, job)).collect();
            if !expired.is_empty() {
                fail_all(&self.peer, expired, RequestError::overloaded());
            }
            if failed.is_empty() {
                return;
            }
            // They never left, and others may leave in their place.
            state = self.state();
            failed.into_iter().for_each(|failed| failed.record(&mut state));
        }
    }

    /// Gives a job to this idle worker, or another, or a new one. Returns the batch that no worker
    /// could be started for, after it has failed.
    fn assign(self: &Arc<Self>, mut idle: Option<WorkerHandle>, mut job: Job) -> Option<Finished> {
        while let Some(worker) = idle {
            match worker.0.try_send((job, worker.clone())) {
                Ok(()) => return None,
                // Its runtime has ended.
                Err(unsent) => job = unsent.into_inner().0,
            }
            idle = self.state().idle.pop();
        }
        match (Handle::try_current(), job) {
            (Ok(runtime), job) => (self.start_worker)(&runtime, self.clone(), job),
            (Err(_), Job::Fetch(mut batch, in_flight)) => {
                batch.fail(Failure::NoRuntime.into());
                return Some(in_flight.finish(Received::default()));
            }
            (Err(_), Job::Update(update, _in_flight)) => {
                update.reply.send(Err(PeerError::failed(self.peer.failure(Failure::NoRuntime))));
            }
            (Err(_), Job::Connect) => {}
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The index of a group's queue.
    fn group(&mut self, group: &Arc<str>) -> usize {
        let same = |queue: &GroupQueue| Arc::ptr_eq(&queue.group, group) || queue.group == *group;
        self.groups.iter().position(same).unwrap_or_else(|| {
            self.groups.push(GroupQueue::new(group.clone()));
            self.groups.len() - 1
        })
    }

    /// A job that may leave now, and an idle worker for it.
    fn next_assignment(&mut self, queue: &Arc<RequestQueue>) -> Option<(Option<WorkerHandle>, Job)> {
        let job = self.next_job(queue)?;
        Some((self.idle.pop(), job))
    }

    /// A job that may leave now: updates first, then the groups in turn.
    fn next_job(&mut self, queue: &Arc<RequestQueue>) -> Option<Job> {
        if self.updates_in_flight < MAX_CONCURRENT_UPDATES
            && let Some(update) = self.updates.pop_front()
        {
            self.updates_in_flight += 1;
            return Some(Job::Update(update, UpdateInFlight(queue.clone())));
        }
        let peer = &queue.peer;
        if self.batches_in_flight >= peer.config.max_connections {
            return None;
        }
        let protocol = peer.protocol.protocol();
        for _ in 0..self.groups.len() {
            let index = self.next_group;
            self.next_group = (index + 1) % self.groups.len();
            let group = &mut self.groups[index];
            group.take_expired(peer, &mut self.expired);
            let Some(first) = group.waiting.front() else { continue };
            // The head of a GET's answer comes after the load, so no other key waits for that.
            let is_alone = protocol == Protocol::Http || first.send_alone;
            if group.is_blocked && !is_alone {
                continue;
            }
            let count = if is_alone { 1 } else { group.next_batch_len() };
            let batch = Batch::new(peer.clone(), group.waiting.drain(..count));
            group.is_blocked |= !is_alone;
            self.batches_in_flight += 1;
            let in_flight = InFlight { queue: queue.clone(), group: index, blocks_group: !is_alone, has_ended: false };
            return Some(Job::Fetch(batch, in_flight));
        }
        None
    }

    fn take_waiting(&mut self) -> Vec<Pending> {
        self.groups.iter_mut().flat_map(|group| group.waiting.drain(..)).collect()
    }
}

impl InFlight {
    /// Lets further keys of the group leave: the peer is at work.
    pub(super) fn unblock_group(&mut self) {
        if self.blocks_group {
            self.blocks_group = false;
            let mut state = self.queue.state();
            state.groups[self.group].is_blocked = false;
            self.queue.dispatch(state);
        }
    }

    /// Whether further keys of the group still wait for it.
    pub(super) fn blocks_group(&self) -> bool {
        self.blocks_group
    }

    /// Ends the batch.
    pub(super) fn finish(self, received: Received) -> Finished {
        Finished { in_flight: self, received }
    }

    fn end(&mut self, state: &mut State) {
        self.has_ended = true;
        state.batches_in_flight -= 1;
        if self.blocks_group {
            state.groups[self.group].is_blocked = false;
        }
    }
}

impl Finished {
    fn record(mut self, state: &mut State) {
        state.groups[self.in_flight.group].observe(self.received);
        self.in_flight.end(state);
    }
}

/// Ends a batch that no worker finishes: its task panicked, or its runtime has ended. The keys that
/// wait are dropped, for they might wait for ever, and a dropped key is answered as a failed peer.
impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.has_ended {
            let queue = self.queue.clone();
            let mut state = queue.state();
            self.end(&mut state);
            let stranded = state.take_waiting();
            drop(state);
            drop(stranded);
        }
    }
}

impl Drop for UpdateInFlight {
    fn drop(&mut self) {
        self.0.state().updates_in_flight -= 1;
    }
}
