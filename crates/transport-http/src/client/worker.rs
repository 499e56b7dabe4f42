//! A task that carries exchanges to one peer, one after another, on a line of its own.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep, timeout, timeout_at},
};

use crate::{
    client::batch::Exchange,
    client::connection::Line,
    client::failure::Failure,
    client::peer::{NoAnswer, Shared},
    client::queue::{Bell, Gate, Idle, Job, Telling},
    client::{get_http, get_native, response_body, send_update},
};

/// A server of ours closes an idle connection after 10 s. We let go of it sooner, so that no request meets the end.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// Does a job, and those that come after it until there has been none for a while.
pub(super) async fn carry(peer: Arc<Shared>, job: Job) {
    let mut line = peer.site.lines.line(&peer.name);
    let (bell, mut jobs) = mpsc::channel(1);
    let (me, bell) = (bell.downgrade(), Bell(bell));
    let mut idle = pin!(sleep(IDLE_TIMEOUT));
    let (mut peer, mut job, mut bell) = (peer, job, bell);
    loop {
        let mut done = None;
        match job {
            Job::Fetch(mut exchange, mut gate) => {
                fetch(&peer, &mut *line, &mut exchange, &mut gate).await;
                done = Some(gate.done(exchange.brought()));
            }
            Job::Tell(telling, turn) => {
                tell(&peer, &mut *line, telling).await;
                drop(turn);
            }
            // Whoever asks finds out what is wrong.
            Job::Warm => drop(timeout(peer.site.peer_timeout, line.warm()).await),
        }
        (job, bell) = match peer.next_job(done, bell) {
            Ok(next) => next,
            Err(Idle::Leaves) => return,
            Err(Idle::Waits) => {
                // The peer is not kept for the sake of its idle couriers.
                let weak = Arc::downgrade(&peer);
                drop(peer);
                let next = next(&mut jobs, &mut *line, idle.as_mut()).await;
                let Some(still) = weak.upgrade() else { return };
                peer = still;
                match next {
                    Some(next) => next,
                    None if peer.leaves(&me) => return,
                    // It was given one just then.
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
async fn next(
    jobs: &mut mpsc::Receiver<(Job, Bell)>,
    line: &mut dyn Line,
    mut idle: Pin<&mut Sleep>,
) -> Option<(Job, Bell)> {
    idle.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
    tokio::select! {
        biased;
        job = jobs.recv() => job,
        () = poll_fn(|cx| line.poll_closed(cx)) => None,
        () = idle => None,
    }
}

async fn tell(peer: &Shared, line: &mut dyn Line, telling: Telling) {
    let Telling { update, within, since, reply } = telling;
    let told = timeout_at(since + within, send_update::tell(peer, line, update, within)).await;
    let told = told.unwrap_or_else(|_| Err(Failure::TooLate(within).into()));
    reply.send(told.map_err(|untold| peer.error(untold)));
}

/// Fetches what an exchange asks for, from beginning to end. It belongs to none of those who wait for it.
async fn fetch(peer: &Arc<Shared>, line: &mut dyn Line, exchange: &mut Exchange, gate: &mut Gate) {
    let Some(first) = exchange.first() else { return };
    // The peer's time begins when it is asked: that our own connections are taken is no fault of its.
    let bound = peer.fetch_bound(first);
    let asked = timeout(bound, ask(peer, line, exchange, gate)).await;
    match asked.unwrap_or_else(|_| Err(Failure::TooLate(bound).into())) {
        Ok(()) => response_body::finish(line, peer.site.peer_timeout, || gate.open()).await,
        Err(no_answer) => {
            let concerns_all = match &no_answer {
                NoAnswer::Failed(Failure::Connect(_)) => true,
                // Not even the head of an answer came. A stall later on is one connection's, or one load's.
                NoAnswer::Failed(Failure::Silent(_)) => gate.is_held(),
                _ => false,
            };
            exchange.fail(no_answer);
            if concerns_all {
                peer.give_up_waiting();
            }
        }
    }
}

/// Asks in the manner that the peer knows, or finds it out.
async fn ask(
    peer: &Arc<Shared>,
    line: &mut dyn Line,
    exchange: &mut Exchange,
    gate: &mut Gate,
) -> Result<(), NoAnswer> {
    if !peer.is_asked_natively() {
        return ask_plainly(peer, line, exchange).await;
    }
    let mut asked = get_native::ask(peer, line, exchange, gate).await;
    if let Err(NoAnswer::Failed(Failure::Closed(_))) = asked
        && peer.is_ours()
    {
        // The connection was a stale one.
        asked = get_native::ask(peer, line, exchange, gate).await;
    }
    match asked {
        Err(NoAnswer::Failed(Failure::PathUnknown(status))) => {
            tracing::debug!(peer = %peer.name, %status, "no native exchange there; asking plainly for a while");
            peer.ask_plainly_for_a_while();
            // The head comes after the load from now on, so those who wait for this one's would wait for that.
            gate.open();
            ask_plainly(peer, line, exchange).await
        }
        // Either the connection was a stale one, or the server gives up on paths that it does not know, as golang's
        // does when it is mounted at the root. A GET is harmless, and its answer tells which.
        Err(NoAnswer::Failed(Failure::Closed(why))) => match exchange.len() {
            1 => match ask_plainly(peer, line, exchange).await {
                // The key is not at fault: natively it would have been carried.
                Err(NoAnswer::NotCarried) => Err(Failure::Closed(why).into()),
                Ok(()) => {
                    peer.closes_on_native_paths();
                    Ok(())
                }
                failed => failed,
            },
            _ => {
                if !get_http::find_out(peer, line).await? {
                    peer.ask_plainly_for_a_while();
                }
                ask_one_by_one(peer, exchange);
                Ok(())
            }
        },
        // One of ours from when there was one key to an exchange.
        Err(NoAnswer::Failed(Failure::Status(StatusCode::BAD_REQUEST))) if exchange.len() > 1 => {
            ask_one_by_one(peer, exchange);
            Ok(())
        }
        asked => asked,
    }
}

async fn ask_plainly(peer: &Arc<Shared>, line: &mut dyn Line, exchange: &mut Exchange) -> Result<(), NoAnswer> {
    let Some(request) = exchange.only() else {
        ask_one_by_one(peer, exchange);
        return Ok(());
    };
    let mut asked = get_http::ask(peer, line, request).await;
    if let Err(NoAnswer::Failed(Failure::Closed(_))) = asked
        && line.was_kept()
    {
        asked = get_http::ask(peer, line, request).await;
    }
    exchange.answer(0, Ok(asked?));
    Ok(())
}

/// Has each key that has no answer asked for by itself.
fn ask_one_by_one(peer: &Arc<Shared>, exchange: &mut Exchange) {
    let mut asked = exchange.take_unanswered();
    asked.iter_mut().for_each(|asked| asked.alone = true);
    peer.ask_again(asked);
}
