//! Accepts connections, closes idle ones for new ones, and drains them all at the shutdown.

use std::{
    collections::HashMap,
    future::{Future, pending},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    auth::log_limit::LogLimit,
    file_limit::is_limit,
    server::connection::{Admission, Behind, Connection},
    server::listener::{Accepted, Listener},
    server::serve_connection::serve_connection,
    server::settings::ServerSettings,
};

/// The pause after a failed accept. When the process has no file left, accepting again at once
/// would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server at work.
pub(super) struct Acceptor {
    router: Router,
    settings: ServerSettings,
    draining: watch::Sender<bool>,
    admission: Arc<Admission>,
    connections: HashMap<task::Id, Arc<Connection>>,
    /// One for each of the connections.
    tasks: JoinSet<()>,
    /// The log of connections that cannot be accepted: whether the limit of open files is reached.
    log_limit: LogLimit<bool>,
}

impl Acceptor {
    pub(super) fn new(router: Router, settings: ServerSettings) -> Self {
        let (draining, _) = watch::channel(false);
        let (admission, connections, tasks) = (Admission::new(), HashMap::new(), JoinSet::new());
        Acceptor { router, settings, draining, admission, connections, tasks, log_limit: LogLimit::default() }
    }

    /// Accepts connections until the shutdown.
    pub(super) async fn accept_until(&mut self, listener: &Listener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                // Reaps tasks that have ended, so that the set does not grow.
                true = self.reap() => continue,
                accepted = listener.accept() => accepted,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) if concerns_one_connection(&error) => continue,
                Err(error) => {
                    self.cannot_accept(&error);
                    tokio::select! {
                        () = &mut shutdown => return,
                        // One more file is free.
                        true = self.reap() => continue,
                        () = sleep(ACCEPT_PAUSE) => continue,
                    }
                }
            };
            tokio::select! {
                biased;
                // The connection is the last one, and is drained with the others.
                () = &mut shutdown => return self.open(accepted),
                () = self.free_one() => self.open(accepted),
            }
        }
    }

    /// Accepts the connections that were made before the shutdown and still wait in the listener's
    /// queue, and closes it.
    pub(super) fn accept_queued(&mut self, listener: Listener) {
        let Ok(mut queue) = listener.into_queue() else { return };
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        while self.has_free() {
            match queue.next() {
                Some(Ok(accepted)) => self.open(accepted),
                Some(Err(error)) if concerns_one_connection(&error) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    /// Waits for the connections to end, and cuts those that do not in time.
    pub(super) async fn drain(mut self, address: &str) {
        self.draining.send_replace(true);
        let all_closed = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.settings.drain_timeout, all_closed).await.is_err() {
            tracing::warn!(%address, connections = self.tasks.len(), "cut off what did not finish in time");
            self.tasks.shutdown().await;
        }
    }

    /// Deals with an error that the next connection meets, too. At the limit of open files the
    /// connection that has been idle for longest gives its file away.
    fn cannot_accept(&self, error: &io::Error) {
        let is_limit = is_limit(error);
        if is_limit && let Some(idle) = self.longest_idle() {
            idle.ask_to_close();
        }
        if self.log_limit.is_due(is_limit) {
            let advice = "trying again, with one idle less if files are short";
            tracing::warn!(%error, "cannot accept a connection; {advice}");
        }
    }

    fn longest_idle(&self) -> Option<&Arc<Connection>> {
        let idle = self.connections.values().filter_map(|connection| Some((connection.idle_since()?, connection)));
        Some(idle.min_by_key(|(since, _)| *since)?.1)
    }

    fn has_free(&self) -> bool {
        self.connections.len() < self.settings.max_connections
    }

    /// Resolves when one more connection may be opened. The one that has been idle for longest is
    /// closed for it.
    async fn free_one(&mut self) {
        while !self.has_free() {
            // Set before the look for an idle connection. Otherwise:
            //   acceptor:   finds no idle connection
            //   connection: becomes idle, and notifies nobody since nobody waits
            //   acceptor:   waits, although there is an idle connection
            self.admission.set_waiting(true);
            let next_look = self.close_one();
            let admission = self.admission.clone();
            tokio::select! {
                _ = self.reap() => {}
                () = admission.connection_changed() => {}
                () = next_look => {}
            }
        }
        self.admission.set_waiting(false);
    }

    /// Closes the connection that has been idle for longest. Where there is none, the reader that
    /// has been behind for longest is cut off, of the address with the most connections. Returns
    /// the time at which the next reader falls behind.
    fn close_one(&self) -> impl Future<Output = ()> + use<> {
        let all = || self.connections.values();
        if let Some((_, idle)) = all().filter_map(|one| Some((one.idle_since()?, one))).min_by_key(|(since, _)| *since)
        {
            idle.ask_to_close();
        } else if !all().any(|connection| connection.is_cut()) {
            let mut of_address = HashMap::<_, usize>::new();
            all().for_each(|connection| *of_address.entry(connection.address()).or_default() += 1);
            let behind = all().filter_map(|connection| match connection.behind()? {
                Behind::Since(time) => Some(((of_address[&connection.address()], time), connection)),
                Behind::In(_) => None,
            });
            if let Some((_, slowest)) = behind.max_by_key(|(rank, _)| *rank) {
                slowest.cut();
            }
        }
        let next = all().filter_map(|connection| match connection.behind()? {
            Behind::In(time) => Some(time),
            Behind::Since(_) => None,
        });
        let next = next.min();
        async move {
            match next {
                Some(time) => sleep(time).await,
                None => pending().await,
            }
        }
    }

    /// Waits for the end of a connection; `false` when there is none.
    async fn reap(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return false;
        };
        self.forget(ended);
        true
    }

    fn forget(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        self.connections.remove(&ended.map_or_else(|panicked| panicked.id(), |(id, ())| id));
    }

    fn open(&mut self, accepted: Accepted) {
        let connection = Connection::new(self.admission.clone(), accepted.address());
        let draining = self.draining.subscribe();
        let serving = serve_connection(self.router.clone(), self.settings, accepted, draining, connection.clone());
        let closing = connection.clone();
        let task = self.tasks.spawn(async move {
            tokio::select! {
                biased;
                // First, since a request may have come in the meantime.
                () = serving => {}
                () = closing.must_close() => {}
            }
        });
        self.connections.insert(task.id(), connection);
    }
}

/// Whether the connection ended while it waited, in contrast to an error that the next one meets,
/// too.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::advance;

    use super::*;
    use crate::server::connection::ActiveRequest;

    const ALLOWANCE: Duration = Duration::from_secs(10);

    /// Adds a connection of a client at this address, whose task does nothing.
    fn connect(acceptor: &mut Acceptor, last: u8) -> Arc<Connection> {
        let connection = Connection::new(acceptor.admission.clone(), Some(IpAddr::from([10, 0, 0, last])));
        let task = acceptor.tasks.spawn(pending());
        acceptor.connections.insert(task.id(), connection.clone());
        connection
    }

    /// Has its client leave an answer unread.
    fn stall(connection: &Arc<Connection>) -> ActiveRequest {
        connection.write_stalled(ALLOWANCE);
        connection.begin_request()
    }

    #[tokio::test(start_paused = true)]
    async fn the_reader_that_has_been_behind_for_longest_is_cut_off() {
        let mut acceptor = Acceptor::new(Router::new(), ServerSettings::default());
        let [first, second, busy] = [1, 1, 2].map(|last| connect(&mut acceptor, last));
        let _answered = (busy.begin_request(), stall(&first));
        advance(Duration::from_secs(1)).await;
        let _unread = stall(&second);
        drop(acceptor.close_one());
        assert!(!first.is_cut(), "it has time left");
        advance(ALLOWANCE).await;
        drop(acceptor.close_one());
        assert_eq!([&first, &second, &busy].map(|connection| connection.is_cut()), [true, false, false]);
        // One at a time, though its client takes a last byte before it ends.
        advance(ALLOWANCE).await;
        first.write_resumed(true);
        drop(acceptor.close_one());
        assert!(!second.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_address_with_the_most_connections_one_is_cut_off_first() {
        let mut acceptor = Acceptor::new(Router::new(), ServerSettings::default());
        let alone = connect(&mut acceptor, 1);
        let _unread = stall(&alone);
        advance(Duration::from_secs(5)).await;
        let crowd = [2, 2, 2].map(|last| connect(&mut acceptor, last));
        let _all_unread: Vec<_> = crowd.iter().map(stall).collect();
        let next_look = acceptor.close_one();
        next_look.await;
        assert!(matches!(alone.behind(), Some(Behind::Since(_))), "it is the next to fall behind");
        advance(ALLOWANCE).await;
        drop(acceptor.close_one());
        assert!(!alone.is_cut());
        assert_eq!(crowd.iter().filter(|connection| connection.is_cut()).count(), 1);
    }
}
