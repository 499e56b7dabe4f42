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
    batch::Batch,
    connection::{Connection, IDLE_TIMEOUT},
    failure::{Failure, RequestError},
    get_http, get_native,
    peer_state::PeerState,
    protocol_state::{Event, Protocol},
    queue::{Idle, InFlight, Job, PendingUpdate, RequestQueue, WorkerHandle},
    response_body, send_update,
};

/// Starts a worker on this runtime.
pub(super) fn start(runtime: &Handle, queue: Arc<RequestQueue>, job: Job) {
    drop(runtime.spawn(run(queue, job)));
}

/// Does a job, and those that come after it until there has been none for a while.
async fn run(queue: Arc<RequestQueue>, job: Job) {
    let peer = queue.peer().clone();
    let mut connection = peer.config.connector.connection(&peer.address);
    let (sender, mut jobs) = mpsc::channel(1);
    let (handle, worker) = (sender.downgrade(), WorkerHandle(sender));
    let mut idle = pin!(sleep(IDLE_TIMEOUT));
    let (mut queue, mut job, mut worker) = (queue, job, worker);
    loop {
        let mut finished = None;
        match job {
            Job::Fetch(mut batch, mut in_flight) => {
                fetch(&queue, &mut *connection, &mut batch, &mut in_flight).await;
                finished = Some(in_flight.finish(batch.received()));
            }
            Job::Update(update, in_flight) => {
                send(&peer, &mut *connection, update).await;
                drop(in_flight);
            }
            // The first request finds out what is wrong, if anything is.
            Job::Connect => drop(timeout(peer.config.peer_timeout, connection.connect_ahead()).await),
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

async fn send(peer: &PeerState, connection: &mut dyn Connection, update: PendingUpdate) {
    let PendingUpdate { update, timeout, since, reply } = update;
    let sent = timeout_at(since + timeout, send_update::send(peer, connection, update, timeout)).await;
    let sent = sent.unwrap_or_else(|_| Err(Failure::TooLate(timeout).into()));
    reply.send(sent.map_err(|error| peer.error(error)));
}

/// Fetches the values of a batch, from beginning to end. No caller's deadline ends it.
async fn fetch(
    queue: &Arc<RequestQueue>,
    connection: &mut dyn Connection,
    batch: &mut Batch,
    in_flight: &mut InFlight,
) {
    let Some(first) = batch.first() else { return };
    // The peer's time begins now and not when the key began to wait: it is not at fault that our
    // own connections are taken.
    let fetch_timeout = queue.peer().fetch_timeout(first);
    let fetched = timeout(fetch_timeout, fetch_in_protocol(queue, connection, batch, in_flight)).await;
    match fetched.unwrap_or_else(|_| Err(Failure::TooLate(fetch_timeout).into())) {
        Ok(()) => {
            let max_silence = queue.peer().config.peer_timeout;
            response_body::drain(connection, max_silence, || in_flight.unblock_group()).await;
        }
        Err(error) => {
            let concerns_all = match &error {
                RequestError::Failed(Failure::Connect(_)) => true,
                // Not even the head of an answer came. A stall later on is one connection's, or one
                // load's.
                RequestError::Failed(Failure::Silent(_)) => in_flight.blocks_group(),
                _ => false,
            };
            batch.fail(error);
            if concerns_all {
                queue.fail_waiting();
            }
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
        return fetch_http(queue, connection, batch).await;
    }
    let mut fetched = get_native::fetch(peer, connection, batch, || in_flight.unblock_group()).await;
    if let Err(RequestError::Failed(Failure::Closed(_))) = fetched {
        // The connection may have been a stale one.
        fetched = get_native::fetch(peer, connection, batch, || in_flight.unblock_group()).await;
    }
    match fetched {
        // One of ours from when there was one key to a request.
        Err(RequestError::Failed(Failure::Status(StatusCode::BAD_REQUEST))) if batch.len() > 1 => {
            fetch_each_alone(queue, batch);
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
    queue: &Arc<RequestQueue>,
    connection: &mut dyn Connection,
    batch: &mut Batch,
) -> Result<(), RequestError> {
    let Some(request) = batch.only() else {
        fetch_each_alone(queue, batch);
        return Ok(());
    };
    let mut fetched = get_http::fetch(queue.peer(), connection, request).await;
    if let Err(RequestError::Failed(Failure::Closed(_))) = fetched
        && connection.was_reused()
    {
        // The connection was a stale one.
        fetched = get_http::fetch(queue.peer(), connection, request).await;
    }
    batch.answer(0, Ok(fetched?));
    Ok(())
}

/// Has each key that has no answer asked for by itself.
fn fetch_each_alone(queue: &Arc<RequestQueue>, batch: &mut Batch) {
    let mut pending = batch.take_unanswered();
    pending.iter_mut().for_each(|pending| pending.send_alone = true);
    queue.fetch_again(pending);
}
