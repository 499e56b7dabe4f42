//! The queue of one peer in one runtime, and natural batching: what waits leaves with workers.
//!
//! A lone key leaves at once. While a batch of its group is on its way, which is until the head of
//! its answer is there, further keys collect; then they leave together. There is no timer in it,
//! and under light load no key waits.
//!
//! Nothing is spawned, woken or answered under the lock. A task that is spawned on a runtime that
//! shuts down is dropped at once, and what it carries takes the lock.

use std::{
    iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peercache_groupcache::{PeerError, PeerRequest, Reply};
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

use crate::client::{
    batch::{Batch, Progress, Received},
    connection::MAX_IDLE,
    failure::{Failure, RequestError},
    merge::{LongExchange, MERGE_AFTER, Recall},
    open_files::Closing,
    peer_state::PeerState,
    pending::{Pending, fail_all, fail_overdue},
    queue_state::{Next, PendingUpdate, Place, QueueState, Stranded},
};

/// The keys and updates for one peer that wait, and the workers of one runtime that send them.
pub(super) struct RequestQueue {
    peer: Arc<PeerState>,
    start_worker: StartWorker,
    state: Mutex<State>,
}

/// Starts a worker with its first job.
pub(super) type StartWorker = fn(&Handle, Arc<RequestQueue>, Job);

struct State {
    requests: QueueState,
    /// Idle workers. The one that became idle last is used first, so that the rest may end.
    idle: Vec<WorkerHandle>,
}

/// The work of a worker: one batch, or one update.
pub(super) enum Job {
    Fetch(Batch, InFlight),
    Update(PendingUpdate, UpdateInFlight),
    /// Opens the connection for a request that is to come.
    Connect,
    /// Ends with the connection.
    Close,
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
    place: Place,
    since: Instant,
    /// The way in which its worker learns that it is recalled.
    recall: Option<Arc<Recall>>,
    has_ended: bool,
}

/// An update in flight. It ends when this is dropped, at the latest.
pub(super) struct UpdateInFlight {
    queue: Arc<RequestQueue>,
    has_ended: bool,
}

/// A request that has ended, which the queue does not know yet.
pub(super) enum Finished {
    Fetch { in_flight: InFlight, received: Received, given_back: Vec<Pending> },
    Update(UpdateInFlight),
}

/// The next step of a worker without a job.
pub(super) enum Idle {
    Waits,
    Ends,
}

impl RequestQueue {
    pub(super) fn new(peer: Arc<PeerState>, start_worker: StartWorker) -> Self {
        let requests = QueueState::new(peer.config.max_fetches);
        RequestQueue { peer, start_worker, state: Mutex::new(State { requests, idle: Vec::new() }) }
    }

    pub(super) fn peer(&self) -> &Arc<PeerState> {
        &self.peer
    }

    /// Asks for one key as soon as possible.
    pub(super) fn fetch(self: &Arc<Self>, request: PeerRequest, reply: Reply) {
        let group = request.group.clone();
        self.add(&group, iter::once((request, reply)));
    }

    /// Asks for these keys of one group as soon as possible. Keys beyond the most that may be
    /// pending are answered as overload.
    pub(super) fn fetch_many(self: &Arc<Self>, requests: Vec<(PeerRequest, Reply)>) {
        if let Some((first, _)) = requests.first() {
            let group = first.group.clone();
            self.add(&group, requests);
        }
    }

    fn add(self: &Arc<Self>, group: &Arc<str>, requests: impl IntoIterator<Item = (PeerRequest, Reply)>) {
        let mut state = self.state();
        let excess = state.requests.add(group, requests);
        self.dispatch(state);
        // Ours and not the peer's, which comes in the same words: a group may load these here.
        let overloaded = |reply: Reply| reply.send(Err(self.peer.error(RequestError::overloaded())));
        excess.into_iter().for_each(|(_, reply)| overloaded(reply));
    }

    /// Sends the update as soon as possible.
    pub(super) fn update(self: &Arc<Self>, update: PendingUpdate) {
        let mut state = self.state();
        let excess = state.requests.add_update(update);
        self.dispatch(state);
        if let Some(update) = excess {
            update.reply.send(Err(PeerError::failed(self.peer.failure(Failure::TooManyUpdates))));
        }
    }

    /// Opens a connection for the first request, if there is none yet.
    pub(super) fn connect_ahead(self: &Arc<Self>, runtime: &Handle) {
        let has_none = |state: &State| state.idle.is_empty() && !state.requests.has_batches_in_flight();
        if has_none(&self.state()) {
            (self.start_worker)(runtime, self.clone(), Job::Connect);
        }
    }

    /// Fails the keys that wait: the peer was found out of reach, and they need not find it out
    /// again.
    pub(super) fn fail_waiting(&self) {
        let waiting = self.state().requests.take_waiting();
        fail_all(&self.peer, waiting, Failure::SilentMeanwhile.into());
    }

    /// Has each idle worker close its connection. Returns the ends of them.
    pub(super) fn close_idle(&self) -> Vec<Closing> {
        let idle = std::mem::take(&mut self.state().idle);
        let close = |worker: WorkerHandle| -> Closing {
            let _ = worker.0.try_send((Job::Close, worker.clone()));
            let ended = worker.0;
            Box::pin(async move { ended.closed().await })
        };
        idle.into_iter().map(close).collect()
    }

    /// Whether no worker has anything to do, or can get anything: their runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        let state = self.state();
        state.requests.is_empty() && state.idle.iter().all(|worker| worker.0.is_closed())
    }

    /// The next job of a worker that has done one. Without a job it is idle, or, if enough workers
    /// are idle, it ends.
    pub(super) fn next_job(
        self: &Arc<Self>,
        mut finished: Option<Finished>,
        worker: WorkerHandle,
    ) -> Result<(Job, WorkerHandle), Idle> {
        let mut state = self.state();
        if let Some(finished) = &mut finished {
            finished.record(&mut state.requests);
        }
        let next = match state.requests.next(&self.peer) {
            Some(next) => Ok((next, worker)),
            None if state.idle.len() < MAX_IDLE => {
                state.idle.push(worker);
                Err(Idle::Waits)
            }
            None => Err(Idle::Ends),
        };
        // The end of one batch may let several others leave.
        self.dispatch(state);
        next.map(|(next, worker)| (self.job(next), worker))
    }

    /// Takes this worker from the idle ones; `false` when it has just been given a job.
    pub(super) fn remove_idle(&self, worker: &mpsc::WeakSender<(Job, WorkerHandle)>) -> bool {
        let Some(worker) = worker.upgrade() else { return false };
        let removed = {
            let mut state = self.state();
            let place = state.idle.iter().position(|idle| worker.same_channel(&idle.0));
            place.map(|place| state.idle.remove(place))
        };
        removed.is_some()
    }

    /// Gives all that may leave now to workers.
    fn dispatch<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        let first = self.next_assignment(&mut state);
        let rest: Vec<_> = iter::from_fn(|| self.next_assignment(&mut state)).collect();
        let expired = state.requests.take_expired();
        drop(state);
        for (idle, next) in first.into_iter().chain(rest) {
            self.assign(idle, self.job(next));
        }
        fail_overdue(&self.peer, expired);
    }

    /// A request that may leave now, and an idle worker for it.
    fn next_assignment(&self, state: &mut State) -> Option<(Option<WorkerHandle>, Next)> {
        let next = state.requests.next(&self.peer)?;
        Some((state.idle.pop(), next))
    }

    /// Gives a job to this idle worker, or another, or a new one.
    fn assign(self: &Arc<Self>, mut idle: Option<WorkerHandle>, mut job: Job) {
        while let Some(worker) = idle {
            match worker.0.try_send((job, worker.clone())) {
                Ok(()) => return,
                // Its task has been dropped: another runtime had this one's id.
                Err(unsent) => job = unsent.into_inner().0,
            }
            idle = self.state().idle.pop();
        }
        // Both callers and workers are in the runtime of this queue. Without one the job is
        // dropped, and what it carries has failed.
        if let Ok(runtime) = Handle::try_current() {
            (self.start_worker)(&runtime, self.clone(), job);
        }
    }

    fn job(self: &Arc<Self>, next: Next) -> Job {
        let queue = self.clone();
        match next {
            Next::Update(update) => Job::Update(update, UpdateInFlight { queue, has_ended: false }),
            Next::Fetch(batch, place) => {
                let in_flight = InFlight { queue, place, since: Instant::now(), recall: None, has_ended: false };
                Job::Fetch(batch, in_flight)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    /// The number of the batch.
    pub(super) fn id(&self) -> u64 {
        self.place.id
    }

    /// Has the batch recalled in this way, if it waits long for loads and others do, too.
    pub(super) fn recalled_by(&mut self, recall: &Arc<Recall>) {
        self.recall = Some(recall.clone());
    }

    /// Whether further keys of the group still wait for it: no head of an answer has come.
    pub(super) fn blocks_group(&self) -> bool {
        self.place.blocks_group
    }

    /// Fails the keys of its group that wait: the peer was found silent.
    pub(super) fn fail_waiting_of_group(&self) {
        let waiting = self.queue.state().requests.take_waiting_of(&self.place);
        fail_all(&self.queue.peer, waiting, Failure::SilentMeanwhile.into());
    }

    /// Asks once more for these keys of its group, before all others.
    pub(super) fn fetch_again(&self, pending: Vec<Pending>) {
        let mut state = self.queue.state();
        state.requests.add_again(&self.place, pending);
        self.queue.dispatch(state);
    }

    /// Ends the batch.
    pub(super) fn finish(self, received: Received, given_back: Vec<Pending>) -> Finished {
        Finished::Fetch { in_flight: self, received, given_back }
    }
}

impl Progress for InFlight {
    /// Lets further keys of the group leave.
    fn is_at_work(&mut self) {
        if self.place.blocks_group {
            let mut state = self.queue.state();
            state.requests.unblock(&mut self.place);
            self.queue.dispatch(state);
        }
    }

    /// Once it has waited long, it may be recalled, or make others be.
    fn still_waits(&mut self, batch: &Batch) {
        let is_due = !self.place.is_long && self.since.elapsed() >= MERGE_AFTER && batch.can_be_merged();
        let (Some(recall), Some(bounds)) = (self.recall.clone().filter(|_| is_due), batch.bounds()) else { return };
        self.place.is_long = true;
        let exchange = LongExchange { id: self.place.id, keys: batch.unanswered(), bounds, recall };
        let recalled = self.queue.state().requests.long_of(&self.place).add(exchange);
        recalled.into_iter().for_each(LongExchange::recall);
    }
}

impl UpdateInFlight {
    /// Ends the update.
    pub(super) fn finish(self) -> Finished {
        Finished::Update(self)
    }
}

impl Finished {
    fn record(&mut self, requests: &mut QueueState) {
        match self {
            Finished::Update(in_flight) => {
                in_flight.has_ended = true;
                requests.end_update();
            }
            Finished::Fetch { in_flight, received, given_back } => {
                in_flight.has_ended = true;
                requests.end_batch(&mut in_flight.place, *received, std::mem::take(given_back));
            }
        }
    }
}

/// Ends a batch that no worker finishes: its task panicked, or its runtime has ended. The keys of
/// its group that wait are dropped, for they might wait for ever, and a dropped key is answered as
/// a failed peer.
impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.has_ended {
            let stranded: (Vec<Pending>, Stranded) = {
                let requests = &mut self.queue.state().requests;
                let waiting = requests.take_waiting_of(&self.place);
                requests.end_batch(&mut self.place, Received::default(), Vec::new());
                (waiting, requests.take_stranded())
            };
            drop(stranded);
        }
    }
}

impl Drop for UpdateInFlight {
    fn drop(&mut self) {
        if !self.has_ended {
            let stranded = {
                let requests = &mut self.queue.state().requests;
                requests.end_update();
                requests.take_stranded()
            };
            drop(stranded);
        }
    }
}
