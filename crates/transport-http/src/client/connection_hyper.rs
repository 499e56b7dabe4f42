//! Lines of our own: one connection each, driven by whoever waits for the answer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, header, uri::InvalidUri};
use http_body::Body;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use peercache_groupcache::BoxError;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    client::connection::{Line, Lines, Step, chained, was_closed},
    client::failure::Failure,
};

/// Past this a head that has not ended is no answer's, so that a hostile peer cannot have more of our memory than that
/// and one read. Bodies are read as before: they are taken away piece by piece.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Plain HTTP/1.1 over TCP, without proxies, redirects or cookies.
pub(super) struct HyperLines {
    pub(super) connect_timeout: Duration,
}

impl Lines for HyperLines {
    fn line(&self, name: &Arc<str>) -> Box<dyn Line> {
        Box::new(HyperLine { name: name.clone(), connect_timeout: self.connect_timeout, open: None, was_kept: false })
    }
}

struct HyperLine {
    name: Arc<str>,
    connect_timeout: Duration,
    open: Option<Open>,
    /// Whether what was sent last found the connection open.
    was_kept: bool,
}

/// A connection. No task of its own drives it: polling one of its two ends does, so that an exchange costs no change of
/// tasks.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    host: HeaderValue,
    /// Before the path of every request.
    prefix: String,
    body: Option<Incoming>,
    has_ended: bool,
}

impl HyperLine {
    async fn connected(&mut self) -> Result<&mut Open, Failure> {
        let mut open = self.open.take();
        if let Some(open) = &mut open {
            // It may have been closed since anybody looked.
            poll_fn(|cx| {
                open.drive(cx);
                Poll::Ready(())
            })
            .await;
        }
        let kept = open.take_if(|open| open.is_of_use());
        self.was_kept = kept.is_some();
        if let Some(open) = kept {
            return Ok(self.open.insert(open));
        }
        let name = &self.name;
        let opened = timeout(self.connect_timeout, Open::connect(name)).await;
        let opened = opened.unwrap_or_else(|_| Err(Failure::Connect("the connection took too long".into())));
        Ok(self.open.insert(opened?))
    }
}

impl Line for HyperLine {
    fn warm(&mut self) -> Step<'_, ()> {
        Box::pin(async { self.connected().await.map(drop) })
    }

    fn send(&mut self, request: http::Request<Bytes>) -> Step<'_, http::response::Parts> {
        Box::pin(async move { self.connected().await?.send(request).await })
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match &mut self.open {
            None => Poll::Ready(None),
            Some(open) => open.poll_piece(cx),
        }
    }

    fn bytes_left(&self) -> Option<u64> {
        self.open.as_ref()?.body.as_ref()?.size_hint().exact()
    }

    fn was_kept(&self) -> bool {
        self.was_kept
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.open {
            None => Poll::Pending,
            Some(open) => {
                open.drive(cx);
                if open.has_ended { Poll::Ready(()) } else { Poll::Pending }
            }
        }
    }
}

impl Open {
    async fn connect(name: &str) -> Result<Self, Failure> {
        let uri: Uri = name.parse().map_err(|error: InvalidUri| Failure::Send(error.into()))?;
        let authority = uri.authority().ok_or_else(|| Failure::Send("it has no host".into()))?;
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let stream = TcpStream::connect((address, authority.port_u16().unwrap_or(80))).await;
        let stream = stream.map_err(|error| unconnected(&error))?;
        // Without it a request waits for the other side's acknowledgement. It fails on dead connections only.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failure)?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let host = HeaderValue::try_from(authority.as_str()).map_err(|error| Failure::Send(error.into()))?;
        Ok(Open { sender, connection, host, prefix, body: None, has_ended: false })
    }

    /// Whether it can carry one more exchange.
    fn is_of_use(&self) -> bool {
        let is_read = self.body.as_ref().is_none_or(Body::is_end_stream);
        is_read && !self.has_ended && self.sender.is_ready()
    }

    async fn send(&mut self, mut request: http::Request<Bytes>) -> Result<http::response::Parts, Failure> {
        self.body = None;
        if !self.prefix.is_empty() {
            let uri = format!("{}{}", self.prefix, request.uri());
            *request.uri_mut() = Uri::try_from(uri).map_err(|error| Failure::Send(error.into()))?;
        }
        request.headers_mut().insert(header::HOST, self.host.clone());
        let mut answer = pin!(self.sender.send_request(request.map(Full::new)));
        let connection = &mut self.connection;
        let has_ended = &mut self.has_ended;
        let answer = poll_fn(|cx| {
            // First the connection, which brings what the answer waits for.
            drive(connection, has_ended, cx);
            match answer.as_mut().poll(cx) {
                // It ended without having taken the request, which nobody will answer.
                Poll::Pending if *has_ended => Poll::Ready(Err(Failure::Closed("it had ended before".into()))),
                answer => answer.map_err(failure),
            }
        });
        let (head, body) = answer.await?.into_parts();
        self.body = Some(body);
        Ok(head)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let mut frame = Pin::new(&mut *body).poll_frame(cx);
            if frame.is_pending() {
                drive(&mut self.connection, &mut self.has_ended, cx);
                frame = Pin::new(body).poll_frame(cx);
            }
            match ready!(frame) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(chained(&error)))),
                None => {
                    self.body = None;
                    // It makes ready for the next exchange.
                    drive(&mut self.connection, &mut self.has_ended, cx);
                }
            }
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, &mut self.has_ended, cx);
    }
}

/// What goes wrong with the connection is told to whoever waits for the answer.
fn drive(connection: &mut Connection<TokioIo<TcpStream>, Full<Bytes>>, has_ended: &mut bool, cx: &mut Context<'_>) {
    if !*has_ended {
        *has_ended = Pin::new(connection).poll(cx).is_ready();
    }
}

/// Tells a peer that is out of reach from a fault of this node, such as having no file descriptor left.
fn unconnected(error: &io::Error) -> Failure {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut => {
            Failure::Connect(chained(error))
        }
        _ => Failure::Send(chained(error)),
    }
}

fn failure(error: hyper::Error) -> Failure {
    match was_closed(&error) {
        true => Failure::Closed(chained(&error)),
        false => Failure::Send(chained(&error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::yield_now,
    };

    use super::*;

    async fn listener_and_line() -> (TcpListener, Box<dyn Line>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}", listener.local_addr().unwrap()).into();
        let lines = HyperLines { connect_timeout: Duration::from_secs(60) };
        (listener, lines.line(&name))
    }

    /// Answers a request on a new connection.
    async fn answer_one(listener: &TcpListener) -> Result<TcpStream, Failure> {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1_000]).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        Ok(stream)
    }

    fn get() -> http::Request<Bytes> {
        http::Request::new(Bytes::new())
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used() {
        let (listener, mut line) = listener_and_line().await;
        for _ in 0..2 {
            let (_, stream) = tokio::try_join!(line.send(get()), answer_one(&listener)).unwrap();
            assert!(!line.was_kept());
            assert!(poll_fn(|cx| line.poll_piece(cx)).await.is_none());
            drop(stream);
            // The runtime learns that it was closed; the line does not.
            for _ in 0..1_000 {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn the_first_use_of_a_connection_that_was_warmed_is_not_its_first() {
        let (listener, mut line) = listener_and_line().await;
        line.warm().await.unwrap();
        assert!(!line.was_kept());
        tokio::try_join!(line.send(get()), answer_one(&listener)).unwrap();
        assert!(line.was_kept());
    }
}
