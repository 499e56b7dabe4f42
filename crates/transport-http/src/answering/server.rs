use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Service;

use super::{linger::linger, stall::Stall, timed_body::TimedBody};

/// hyper takes no smaller limit.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// A year. The clock does not count for ever, and adding more to it may panic.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When the process has no file left, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From the end of accepting to the closing of idle connections. A request that crosses the shutdown on its way is
/// answered, and an answer in this time tells its client that the connection ends.
const LAST_CALL: Duration = Duration::from_millis(100);

/// Serves a router over HTTP/1.1 to whoever comes, and lets nobody take more than a share.
///
/// Every wait has a bound: for a connection (there are so many), for a head, for a body, for a reader that does not
/// read, for the end. More connections than allowed wait in the listener's queue; since a silent one is closed after
/// [`header_read_timeout`](Server::header_read_timeout), a thousand of them hold others up no longer than that.
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

    /// How many connections are open at once, at least 1; further ones wait until one is closed. Defaults to 1,024.
    pub fn connections_max(mut self, connections_max: usize) -> Self {
        self.limits.connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
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
    pub fn head_bytes_max(mut self, bytes: usize) -> Self {
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
        let slots = Arc::new(Semaphore::new(self.limits.connections_max));
        let mut house = House { server: self, slots, draining, connections: JoinSet::new() };
        house.admit(&listener, shutdown).await;
        house.admit_who_waits(&listener);
        drop(listener);
        house.drain(address).await;
        Ok(())
    }
}

/// A server at work.
struct House {
    server: Server,
    /// One for each connection that may be open.
    slots: Arc<Semaphore>,
    draining: watch::Sender<bool>,
    connections: JoinSet<()>,
}

impl House {
    /// Accepts connections until the shutdown.
    async fn admit(&mut self, listener: &TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                // Reaps what has ended, so that the set does not grow.
                Some(_) = self.connections.join_next() => {}
                (stream, slot) = accept(listener, &self.slots) => self.open(stream, slot),
            }
        }
    }

    /// Accepts the connections that were made before the shutdown and still wait in the listener's queue.
    fn admit_who_waits(&mut self, listener: &TcpListener) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Ok(slot) = self.slots.clone().try_acquire_owned() {
            let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut cx) else {
                return;
            };
            self.open(stream, slot);
        }
    }

    fn open(&mut self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let router = self.server.router.clone();
        let connection = serve_connection(router, self.server.limits, stream, self.draining.subscribe());
        self.connections.spawn(async move {
            connection.await;
            drop(slot);
        });
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

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the connection ended while it waited, as against a trouble that the next one has, too.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection(router: Router, limits: Limits, stream: TcpStream, mut draining: watch::Receiver<bool>) {
    // Without it small answers wait for the other side's acknowledgement. It fails on dead connections only.
    let _ = stream.set_nodelay(true);
    let last_words = draining.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = respond(router.clone(), request, limits.body_read_timeout);
        let draining = last_words.clone();
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(if *draining.borrow() { with_farewell(answer) } else { answer })
        }
    });
    let io = Stall::new(TokioIo::new(stream), limits.write_timeout);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        // Who has said all that it has to say still wants the answer.
        .half_close(true)
        .max_buf_size(limits.head_bytes_max)
        .max_header_size(limits.head_bytes_max)
        .serve_connection(io, service);

    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = last_call(&mut draining) => {
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

/// Resolves when idle connections are to be closed.
async fn last_call(draining: &mut watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_ok() {
        sleep(LAST_CALL).await;
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
