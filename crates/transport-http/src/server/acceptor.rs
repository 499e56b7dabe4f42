//! Accepts connections, closes idle ones for new ones, and drains them all at the shutdown.

use std::{collections::HashMap, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{self, JoinSet},
    time::{sleep, timeout},
};

use crate::server::{
    connection::{Admission, Connection},
    serve_connection::serve_connection,
    settings::ServerSettings,
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
}

impl Acceptor {
    pub(super) fn new(router: Router, settings: ServerSettings) -> Self {
        let (draining, _) = watch::channel(false);
        let (admission, connections, tasks) = (Admission::new(), HashMap::new(), JoinSet::new());
        Acceptor { router, settings, draining, admission, connections, tasks }
    }

    /// Accepts connections until the shutdown.
    pub(super) async fn accept_until(&mut self, listener: &TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                biased;
                () = &mut shutdown => return,
                // Reaps tasks that have ended, so that the set does not grow.
                true = self.reap() => continue,
                stream = accept(listener) => stream,
            };
            tokio::select! {
                biased;
                // The connection is the last one, and is drained with the others.
                () = &mut shutdown => return self.open(stream),
                () = self.free_one() => self.open(stream),
            }
        }
    }

    /// Accepts the connections that were made before the shutdown and still wait in the listener's
    /// queue, and closes it.
    ///
    /// The system is asked directly: tokio reports an empty queue until its driver has heard of a
    /// new connection, and under load that is later.
    pub(super) fn accept_queued(&mut self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while self.has_free() {
            match listener.accept().and_then(|(stream, _)| into_tokio(stream)) {
                Ok(stream) => self.open(stream),
                Err(error) if concerns_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for the connections to end, and cuts those that do not in time.
    pub(super) async fn drain(mut self, address: SocketAddr) {
        self.draining.send_replace(true);
        let all_closed = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.settings.drain_timeout, all_closed).await.is_err() {
            tracing::warn!(%address, connections = self.tasks.len(), "cut off what did not finish in time");
            self.tasks.shutdown().await;
        }
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
            let idle = self.connections.values().filter_map(|connection| Some((connection.idle_since()?, connection)));
            if let Some((_, connection)) = idle.min_by_key(|(since, _)| *since) {
                connection.ask_to_close();
            }
            let admission = self.admission.clone();
            tokio::select! {
                _ = self.reap() => {}
                () = admission.connection_became_idle() => {}
            }
        }
        self.admission.set_waiting(false);
    }

    /// Waits for the end of a connection; `false` when there is none.
    async fn reap(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return false;
        };
        self.connections.remove(&ended.map_or_else(|panicked| panicked.id(), |(id, ())| id));
        true
    }

    fn open(&mut self, stream: TcpStream) {
        let connection = Connection::new(self.admission.clone());
        let draining = self.draining.subscribe();
        let serving = serve_connection(self.router.clone(), self.settings, stream, draining, connection.clone());
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

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn into_tokio(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Whether the connection ended while it waited, in contrast to an error that the next one meets,
/// too.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
