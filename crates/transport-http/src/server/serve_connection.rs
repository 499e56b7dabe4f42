//! Serves one connection from its first request to its end.

use std::{
    convert::Infallible,
    future::poll_fn,
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
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower::Service;

use crate::server::{
    connection::{ActiveBody, ClientAddress, Connection, Origin},
    head_timeout::HeadTimeout,
    linger::linger,
    listener::Accepted,
    read_timeout::ReadTimeout,
    settings::ServerSettings,
    stream::Stream,
    timed_io::TimedIo,
    write_timeout::WriteTimeout,
};

/// The time from the end of accepting to the closing of idle connections. A request that crosses
/// the shutdown on its way is answered, and an answer in this time tells its client that the
/// connection ends.
const GRACE: Duration = Duration::from_millis(100);

/// The same for a connection without a request so far: its client has one to send, and may be slow.
const NEW_CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// Serves a connection until it ends, at the shutdown or before.
pub(super) async fn serve_connection(
    router: Router,
    settings: ServerSettings,
    accepted: Accepted,
    mut draining: watch::Receiver<bool>,
    connection: Arc<Connection>,
) {
    let has_no_request = AtomicBool::new(true);
    let opened = tokio::select! {
        biased;
        opened = timeout(settings.header_read_timeout, accepted.open()) => opened,
        () = end_of_grace(&mut draining, &has_no_request) => return,
    };
    match opened {
        Ok(Ok((stream, origin))) => serve_stream(router, settings, stream, origin, draining, connection).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection was not opened"),
        Err(_) => tracing::debug!("a connection was not opened in time"),
    }
}

async fn serve_stream(
    router: Router,
    settings: ServerSettings,
    stream: Stream,
    origin: Origin,
    mut draining: watch::Receiver<bool>,
    connection: Arc<Connection>,
) {
    let ends_at = stream.has_lifetime().then(|| Instant::now() + settings.tls_lifetime);
    let idle_timeout = settings.idle_timeout.unwrap_or(settings.header_read_timeout);
    let head = HeadTimeout::new(settings.header_read_timeout, idle_timeout, connection.clone());
    let write = WriteTimeout::new(settings.write_timeout, connection.clone());
    let io = TimedIo::new(TokioIo::new(stream), head, write);
    let (is_draining, is_new) = (draining.clone(), Arc::new(AtomicBool::new(true)));
    let has_no_request = is_new.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        has_no_request.store(false, Relaxed);
        request.extensions_mut().insert(origin);
        request.extensions_mut().insert(connection.clone());
        if let Some(address) = origin.address {
            request.extensions_mut().insert(ClientAddress(address));
        }
        let active = connection.begin_request();
        let answer = respond(router.clone(), request, settings.body_read_timeout);
        let is_draining = is_draining.clone();
        async move {
            let mut answer = answer.await?;
            if *is_draining.borrow() || ends_at.is_some_and(|end| end <= Instant::now()) {
                // Tells the client to send nothing more on this connection.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| ActiveBody::new(body, active)))
        }
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // Measured by `HeadTimeout`: hyper's time for a head would begin with the wait for it.
        .header_read_timeout(None)
        // A client that has sent all its requests still wants the answers.
        .half_close(true)
        .max_buf_size(settings.max_head_bytes)
        .max_header_size(settings.max_head_bytes)
        .serve_connection(io, service);

    let ended = tokio::select! {
        // Bytes that have arrived are read before the connection counts as idle.
        biased;
        ended = &mut serving => ended,
        () = end_of_grace(&mut draining, &is_new) => {
            std::pin::Pin::new(&mut serving).graceful_shutdown();
            (&mut serving).await
        }
    };
    let io = serving.into_parts().io;
    match ended {
        // Nothing that it may wait for is on its way.
        _ if io.has_timed_out() => tracing::debug!("no request came in time"),
        // An idle connection that the shutdown closed has nothing on its way.
        Ok(()) if *draining.borrow() => {}
        Err(error) if !error.is_parse() => tracing::debug!(%error, "a connection ended early"),
        // An answer may be on its way, and so may the request that it refuses.
        Ok(()) | Err(_) => linger(io.into_inner().into_inner()).await,
    }
}

/// Resolves when an idle connection is to be closed.
async fn end_of_grace(draining: &mut watch::Receiver<bool>, is_new: &AtomicBool) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        return;
    }
    sleep(GRACE).await;
    if is_new.load(Relaxed) {
        sleep(NEW_CONNECTION_GRACE - GRACE).await;
    }
}

async fn respond(
    mut router: Router,
    request: Request<Incoming>,
    body_read_timeout: Duration,
) -> Result<Response, Infallible> {
    let request = request.map(|body| Body::new(ReadTimeout::new(body, body_read_timeout)));
    poll_fn(|cx| Service::<Request<Body>>::poll_ready(&mut router, cx)).await?;
    router.call(request).await
}
