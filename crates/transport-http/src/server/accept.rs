use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tower::Service;

use crate::{
    server::connection_slot::{Door, Seat, SeatedBody},
    server::linger::linger,
    server::read_timeout::TimedBody,
    server::write_timeout::Stall,
};

/// hyper takes no smaller limit.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// A year. The clock does not count for ever, and adding more to it may panic.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When the process has no file left, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From the end of accepting to the closing of idle connections. A request that crosses the shutdown on its way is
/// answered, and an answer in this time tells its client that the connection ends.
const LAST_CALL: Duration = Duration::from_millis(100);

/// The same for a connection that is new: whoever has just made it has a request to send, and may be held up.
const FIRST_CALL: Duration = Duration::from_secs(1);

/// Serves a router over HTTP/1.1 to whoever comes, and lets nobody take more than a share.
///
/// Every wait has a bound: for a connection (there are so many), for a head, for a body, for a reader that does not
/// read, for the end. When all connections are taken and one more comes, the one that has waited longest for a request
/// is closed for it, so that neither silence nor idleness locks others out; while all are being answered, it waits.
#[derive(Clone, Debug)]
#[must_use]
pub struct Server {
    router: Router,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    connections_max: usize,
    header_read_timeout: Duration,
    head_bytes_max: usize,
    body_read_timeout: Duration,
    write_timeout: Duration,
    drain_timeout: Duration,
}

impl Server {
    /// A server of `router` with the default limits.
    pub fn new(router: Router) -> Self {
        let limits = Limits {
            connections_max: 1_024,
            header_read_timeout: Duration::from_secs(10),
            head_bytes_max: 16 * 1024,
            body_read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(25),
        };
        Server { router, limits }
    }

    /// How many connections are served at once, at least 1. When another one comes, the one that has waited longest for
    /// a request is closed; while there is none, further connections wait. Defaults to 1,024.
    pub fn max_connections(mut self, connections_max: usize) -> Self {
        self.limits.connections_max = connections_max.max(1);
        self
    }

    /// How long after the connection opened or the previous answer ended the head of a request must be complete,
    /// however it drips. An idle connection is closed by this, too. Defaults to 10 s.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.limits.header_read_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// The longest head of a request, in bytes, from the request line to the empty line, at least 8 KiB. A longer one
    /// is answered with 431. Defaults to 16 KiB.
    pub fn max_head_bytes(mut self, bytes: usize) -> Self {
        self.limits.head_bytes_max = bytes.max(HEAD_BYTES_MIN);
        self
    }

    /// How long the body of a request may take to arrive, counted from its first wait; whoever reads it gets an error
    /// then. How long the body may be is for the router to say. Defaults to 30 s.
    pub fn body_read_timeout(mut self, timeout: Duration) -> Self {
        self.limits.body_read_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How long a client may leave what is sent to it unread, or read it at less than 128 KiB a second. Defaults
    /// to 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.limits.write_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How long requests that are under way at the shutdown may take to finish; then their connections are cut.
    /// Defaults to 25 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.limits.drain_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// Serves the connections of `listener` until `shutdown` resolves, then finishes what is under way and closes
    /// what is idle. Dropping the future cuts all connections.
    ///
    /// # Errors
    /// When the listener has no address, which is to say that it is none. That a connection cannot be accepted is
    /// logged and tried again.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        let (draining, _) = watch::channel(false);
        let (door, seats, connections) = (Door::new(), HashMap::new(), JoinSet::new());
        let mut house = House { server: self, draining, door, seats, connections };
        house.admit(&listener, shutdown).await;
        house.admit_who_waits(listener);
        house.drain(address).await;
        Ok(())
    }
}

/// A server at work.
struct House {
    server: Server,
    draining: watch::Sender<bool>,
    door: Arc<Door>,
    /// One for each of the connections.
    seats: HashMap<task::Id, Arc<Seat>>,
    connections: JoinSet<()>,
}

impl House {
    /// Accepts connections until the shutdown.
    async fn admit(&mut self, listener: &TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                biased;
                () = &mut shutdown => return,
                // Reaps what has ended, so that the set does not grow.
                true = self.reap() => continue,
                stream = accept(listener) => stream,
            };
            tokio::select! {
                biased;
                // It is the last one, and leaves with the others.
                () = &mut shutdown => return self.open(stream),
                () = self.make_room() => self.open(stream),
            }
        }
    }

    /// Accepts the connections that were made before the shutdown and still wait in the listener's queue, and closes it.
    ///
    /// The system is asked directly: tokio says that nobody waits until its driver has heard of somebody, and under load
    /// that is later.
    fn admit_who_waits(&mut self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while self.has_room() {
            match listener.accept().and_then(|(stream, _)| into_tokio(stream)) {
                Ok(stream) => self.open(stream),
                Err(error) if concerns_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.seats.len() < self.server.limits.connections_max
    }

    /// Resolves when there is room for one more. Whoever has been idle for longest makes it.
    async fn make_room(&mut self) {
        while !self.has_room() {
            self.door.someone_waits(true);
            let idle = self.seats.values().filter_map(|seat| Some((seat.idle_since()?, seat)));
            if let Some((_, seat)) = idle.min_by_key(|(since, _)| *since) {
                seat.ask_to_leave();
            }
            let door = self.door.clone();
            tokio::select! {
                _ = self.reap() => {}
                () = door.seat_became_idle() => {}
            }
        }
        self.door.someone_waits(false);
    }

    /// Waits for the end of a connection; `false` when there is none.
    async fn reap(&mut self) -> bool {
        let Some(ended) = self.connections.join_next_with_id().await else {
            return false;
        };
        self.seats.remove(&ended.map_or_else(|panicked| panicked.id(), |(id, ())| id));
        true
    }

    fn open(&mut self, stream: TcpStream) {
        let (server, seat) = (&self.server, Seat::new(self.door.clone()));
        let connection =
            serve_connection(server.router.clone(), server.limits, stream, self.draining.subscribe(), seat.clone());
        let leaving = seat.clone();
        let task = self.connections.spawn(async move {
            tokio::select! {
                biased;
                // First, since a request may have come in the meantime.
                () = connection => {}
                () = leaving.is_to_leave() => {}
            }
        });
        self.seats.insert(task.id(), seat);
    }

    async fn drain(mut self, address: SocketAddr) {
        self.draining.send_replace(true);
        let all_closed = async { while self.connections.join_next().await.is_some() {} };
        if timeout(self.server.limits.drain_timeout, all_closed).await.is_err() {
            tracing::warn!(%address, connections = self.connections.len(), "cut off what did not finish in time");
            self.connections.shutdown().await;
        }
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

/// Whether the connection ended while it waited, as against a trouble that the next one has, too.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection(
    router: Router,
    limits: Limits,
    stream: TcpStream,
    mut draining: watch::Receiver<bool>,
    seat: Arc<Seat>,
) {
    // Without it small answers wait for the other side's acknowledgement. It fails on dead connections only.
    let _ = stream.set_nodelay(true);
    let last_words = draining.clone();
    let io = Stall::new(TokioIo::new(stream), limits.write_timeout, seat.clone());
    let is_new = Arc::new(AtomicBool::new(true));
    let asked = is_new.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        asked.store(false, Relaxed);
        let busy = seat.begin();
        let answer = respond(router.clone(), request, limits.body_read_timeout);
        let draining = last_words.clone();
        async move {
            let answer = answer.await?;
            let answer = if *draining.borrow() { with_farewell(answer) } else { answer };
            Ok::<_, Infallible>(answer.map(|body| SeatedBody::new(body, busy)))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        // Who has said all that it has to say still wants the answer.
        .half_close(true)
        .max_buf_size(limits.head_bytes_max)
        .max_header_size(limits.head_bytes_max)
        .serve_connection(io, service);

    let ended = tokio::select! {
        // What has arrived is read before the connection is taken for idle.
        biased;
        ended = &mut connection => ended,
        () = last_call(&mut draining, &is_new) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    match ended {
        // An idle connection that the shutdown closed has nothing on its way.
        Ok(()) if *draining.borrow() => {}
        Err(error) if !error.is_parse() => tracing::debug!(%error, "a connection ended early"),
        // An answer may be on its way, and what it refuses may be, too.
        Ok(()) | Err(_) => linger(connection.into_parts().io.into_inner().into_inner()).await,
    }
}

/// Resolves when an idle connection is to be closed.
async fn last_call(draining: &mut watch::Receiver<bool>, is_new: &AtomicBool) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        return;
    }
    sleep(LAST_CALL).await;
    if is_new.load(Relaxed) {
        sleep(FIRST_CALL - LAST_CALL).await;
    }
}

async fn respond(
    mut router: Router,
    request: Request<Incoming>,
    body_read_timeout: Duration,
) -> Result<Response, Infallible> {
    let request = request.map(|body| Body::new(TimedBody::new(body, body_read_timeout)));
    poll_fn(|cx| Service::<Request<Body>>::poll_ready(&mut router, cx)).await?;
    router.call(request).await
}

/// Tells the client to send nothing more on this connection.
fn with_farewell(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_contracts() {
        let limits = Server::new(Router::new()).limits;
        let timeouts =
            [limits.header_read_timeout, limits.body_read_timeout, limits.write_timeout, limits.drain_timeout];
        assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [10, 30, 10, 25]);
        assert_eq!((limits.connections_max, limits.head_bytes_max), (1_024, 16 * 1024));
    }
}
