//! A worker: a task that sends one request after another to a peer, on a connection of its own.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
};

use http::StatusCode;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, Sleep, sleep, timeout, timeout_at},
};

use crate::client::{
    batch::{Batch, Progress},
    connection::{Connection, IDLE_TIMEOUT},
    failure::{Failure, RequestError},
    get_http, get_native,
    merge::Recall,
    peer_state::PeerState,
    protocol_state::{Event, Protocol},
    queue::{Finished, Idle, InFlight, Job, RequestQueue, WorkerHandle},
    queue_state::PendingUpdate,
    response_body, send_update,
};

/// Starts a worker on this runtime.
pub(super) fn start(runtime: &Handle, queue: Arc<RequestQueue>, job: Job) {
    drop(runtime.spawn(run(queue, job)));
}

/// Does a job, and those that come after it until there has been none for a while.
async fn run(queue: Arc<RequestQueue>, job: Job) {
    let peer = queue.peer().clone();
    let recall = Arc::<Recall>::default();
    // Before the connection, so that the channel closes after it.
    let (sender, mut jobs) = mpsc::channel(1);
    let mut connection = peer.config.connector.connection(&peer.address);
    let (handle, worker) = (sender.downgrade(), WorkerHandle(sender));
    let mut idle = pin!(sleep(IDLE_TIMEOUT));
    let (mut queue, mut job, mut worker) = (queue, job, worker);
    loop {
        let mut finished = None;
        let mut is_kept = true;
        match job {
            Job::Fetch(batch, in_flight) => {
                let (fetched, ended) = fetch(&queue, &mut *connection, batch, in_flight, &recall).await;
                is_kept = fetched;
                finished = Some(ended);
            }
            Job::Update(update, in_flight) => {
                is_kept = send(&peer, &mut *connection, update).await;
                finished = Some(in_flight.finish());
            }
            // The first request finds out what is wrong, if anything is.
            Job::Connect => drop(timeout(peer.config.peer_timeout, connection.connect_ahead()).await),
            Job::Close => return,
        }
        if !is_kept {
            // At once, so that the peer has its end free for others.
            connection = peer.config.connector.connection(&peer.address);
        }
        (job, worker) = match queue.next_job(finished, worker) {
            Ok(next) => next,
            Err(Idle::Ends) => return,
            Err(Idle::Waits) => {
                // Idle workers keep no queue alive, so that they end with their peer.
                let weak = Arc::downgrade(&queue);
                drop(queue);
                let next = wait_for_job(&mut jobs, &mut *connection, idle.as_mut()).await;
                let Some(alive) = weak.upgrade() else { return };
                queue = alive;
                match next {
                    Some(next) => next,
                    None if queue.remove_idle(&handle) => return,
                    // It was given a job just then. The worker's idle time is over. Then the queue
                    // takes its handle from the idle ones and sends the job. So the worker is not
                    // among the idle ones any more, and a job is on its way.
                    None => match jobs.recv().await {
                        Some(next) => next,
                        None => return,
                    },
                }
            }
        }
    }
}

/// The next job; `None` when there is none for a while, or the connection has ended.
async fn wait_for_job(
    jobs: &mut mpsc::Receiver<(Job, WorkerHandle)>,
    connection: &mut dyn Connection,
    mut idle: Pin<&mut Sleep>,
) -> Option<(Job, WorkerHandle)> {
    idle.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
    tokio::select! {
        biased;
        job = jobs.recv() => job,
        () = poll_fn(|cx| connection.poll_closed(cx)) => None,
        () = idle => None,
    }
}

/// Sends an update. Returns whether the connection can be used again.
async fn send(peer: &PeerState, connection: &mut dyn Connection, update: PendingUpdate) -> bool {
    let PendingUpdate { update, timeout, since, reply } = update;
    let sent = timeout_at(since + timeout, send_update::send(peer, connection, update, since, timeout)).await;
    let sent = sent.unwrap_or_else(|_| Err(Failure::TooLate(timeout).into()));
    let is_kept = !matches!(sent, Err(RequestError::Failed(_)));
    reply.send(sent.map_err(|error| peer.error(error)));
    is_kept
}

/// Fetches the values of a batch, from beginning to end. No caller's deadline ends it. Returns
/// whether the connection can be used again.
async fn fetch(
    queue: &Arc<RequestQueue>,
    connection: &mut dyn Connection,
    mut batch: Batch,
    mut in_flight: InFlight,
    recall: &Arc<Recall>,
) -> (bool, Finished) {
    let Some(first) = batch.first() else { return (true, in_flight.finish(batch.received(), Vec::new())) };
    let (peer, id) = (queue.peer(), in_flight.id());
    let (fetch_timeout, heard) = (peer.fetch_timeout(first), peer.heard());
    in_flight.recalled_by(recall);
    // The peer's time begins now and not when the key began to wait: it is not at fault that our
    // own connections are taken.
    let deadline = batch.begin();
    let fetched = tokio::select! {
        biased;
        fetched = timeout_at(deadline, fetch_in_protocol(queue, connection, &mut batch, &mut in_flight)) => fetched,
        () = recall.of(id) => {
            let received = batch.received();
            return (false, in_flight.finish(received, batch.give_back()));
        }
    };
    match fetched.unwrap_or_else(|_| Err(Failure::TooLate(fetch_timeout).into())) {
        Ok(()) => {
            response_body::drain(connection, peer.config.peer_timeout, || in_flight.is_at_work()).await;
            (true, in_flight.finish(batch.received(), Vec::new()))
        }
        Err(error) => {
            let (is_kept, scope) = (!matches!(error, RequestError::Failed(_)), Scope::of(&error, &in_flight));
            let received = batch.received();
            // If the peer was heard meanwhile, on another connection, it is neither silent nor out
            // of reach: the failure is one of this exchange.
            let was_heard = peer.heard() != heard;
            batch.fail(match error {
                RequestError::Failed(Failure::Silent(silence)) if peer.was_heard_during(silence) => {
                    Failure::Stalled(silence).into()
                }
                error => error,
            });
            match scope {
                _ if was_heard => {}
                Scope::Peer => queue.fail_waiting(),
                Scope::Group => in_flight.fail_waiting_of_group(),
                Scope::Exchange => {}
            }
            (is_kept, in_flight.finish(received, Vec::new()))
        }
    }
}

/// The keys that a failure concerns, as far as one exchange can tell.
enum Scope {
    /// All keys that wait for the peer: it is out of reach.
    Peer,
    /// Those of the group: not even the head of an answer came. Other groups have exchanges of
    /// their own.
    Group,
    /// Those of the exchange: a stall later on is one connection's, or one load's.
    Exchange,
}

impl Scope {
    fn of(error: &RequestError, in_flight: &InFlight) -> Self {
        match error {
            RequestError::Failed(Failure::Connect(_) | Failure::ConnectTooLong) => Scope::Peer,
            RequestError::Failed(Failure::Silent(_)) if in_flight.blocks_group() => Scope::Group,
            _ => Scope::Exchange,
        }
    }
}

/// Asks in the protocol that the peer understands.
async fn fetch_in_protocol(
    queue: &Arc<RequestQueue>,
    connection: &mut dyn Connection,
    batch: &mut Batch,
    in_flight: &mut InFlight,
) -> Result<(), RequestError> {
    let peer = queue.peer();
    if peer.protocol.protocol() == Protocol::Http {
        return fetch_http(peer, connection, batch, in_flight).await;
    }
    let mut fetched = get_native::fetch(peer, connection, batch, in_flight).await;
    if let Err(RequestError::Failed(Failure::Closed(_))) = fetched {
        // The connection may have been a stale one.
        fetched = get_native::fetch(peer, connection, batch, in_flight).await;
    }
    match fetched {
        // One of ours from when there was one key to a request.
        Err(RequestError::Failed(Failure::Status(StatusCode::BAD_REQUEST))) if batch.len() > 1 => {
            fetch_each_alone(in_flight, batch);
            Ok(())
        }
        Err(RequestError::Failed(failure @ Failure::Closed(_))) => {
            peer.protocol.observe(Event::NativeClosed);
            Err(failure.into())
        }
        fetched => fetched,
    }
}

/// Asks with golang's GET, which takes one key.
async fn fetch_http(
    peer: &PeerState,
    connection: &mut dyn Connection,
    batch: &mut Batch,
    in_flight: &InFlight,
) -> Result<(), RequestError> {
    let Some(request) = batch.only() else {
        fetch_each_alone(in_flight, batch);
        return Ok(());
    };
    let mut fetched = get_http::fetch(peer, connection, request).await;
    if let Err(RequestError::Failed(Failure::Closed(_))) = fetched
        && connection.was_reused()
    {
        // The connection was a stale one.
        fetched = get_http::fetch(peer, connection, request).await;
    }
    batch.answer(0, Ok(fetched?));
    Ok(())
}

/// Has each key that has no answer asked for by itself.
fn fetch_each_alone(in_flight: &InFlight, batch: &mut Batch) {
    let mut pending = batch.take_unanswered();
    pending.iter_mut().for_each(|pending| pending.send_alone = true);
    in_flight.fetch_again(pending);
}
