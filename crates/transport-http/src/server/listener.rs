//! The listeners that connections of a server come from: TCP, TLS over TCP, or a unix socket.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use crate::{
    address::is_loopback,
    server::{connection::Origin, stream::Stream},
};
#[cfg(feature = "tls")]
use crate::{server::linger::linger, tls::Tls};

/// A listener of a [`Server`](crate::Server): a [`TcpListener`], a `UnixListener`, or TLS over the
/// former. Connections have the same limits, whatever they are made of.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    kind: Kind,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// The facts that hold for all connections of one listener.
#[derive(Clone, Debug)]
struct Kind {
    /// Whether only this machine can reach it.
    is_local: bool,
    #[cfg(feature = "tls")]
    tls: Option<TlsSettings>,
}

#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
struct TlsSettings {
    files: Tls,
    /// Whether clients without a certificate are served, too.
    is_open: bool,
}

/// A connection that was accepted, before anything is read from it.
pub(super) struct Accepted {
    stream: AcceptedStream,
    kind: Kind,
}

enum AcceptedStream {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Listener {
    /// Speaks TLS on the connections of `listener`, and demands a certificate of each client. A new
    /// connection uses the files as they are then; an old one ends after an hour.
    ///
    /// Every client that shows a certificate of the authority in `tls` is a member to the router
    /// that is served here. So that has to be the authority of the members' certificates, and of
    /// no others: give it the very [`Tls`] of the [`Membership`](crate::Membership), as
    /// [`PeerServer::listener`](crate::PeerServer::listener) does.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(listener: TcpListener, tls: Tls) -> Self {
        Listener::with_tls(listener, tls, false)
    }

    /// Like [`tls`](Self::tls); where `is_open` holds, clients without a certificate are served,
    /// too, and each request is decided upon.
    #[cfg(feature = "tls")]
    pub(super) fn with_tls(listener: TcpListener, files: Tls, is_open: bool) -> Self {
        let mut listener = Listener::from(listener);
        listener.kind.tls = Some(TlsSettings { files, is_open });
        listener
    }

    /// Its address, for people.
    pub(super) fn address(&self) -> io::Result<String> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            #[cfg(unix)]
            Socket::Unix(listener) => Ok(format!("{:?}", listener.local_addr()?)),
        }
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        let stream = match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                AcceptedStream::Tcp(stream, address)
            }
            #[cfg(unix)]
            Socket::Unix(listener) => AcceptedStream::Unix(listener.accept().await?.0),
        };
        Ok(Accepted { stream, kind: self.kind.clone() })
    }

    /// Stops waiting for connections, and returns those that wait in the system's queue. An empty
    /// queue is an error of the iterator.
    ///
    /// The system is asked directly: tokio reports an empty queue until its driver has heard of a
    /// new connection, and under load that is later.
    pub(super) fn into_queue(self) -> io::Result<impl Iterator<Item = io::Result<Accepted>>> {
        let Listener { socket, kind } = self;
        let mut accept: Box<dyn FnMut() -> io::Result<AcceptedStream>> = match socket {
            Socket::Tcp(listener) => {
                let listener = listener.into_std()?;
                Box::new(move || {
                    let (stream, address) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    TcpStream::from_std(stream).map(|stream| AcceptedStream::Tcp(stream, address))
                })
            }
            #[cfg(unix)]
            Socket::Unix(listener) => {
                let listener = listener.into_std()?;
                Box::new(move || {
                    let (stream, _) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    UnixStream::from_std(stream).map(AcceptedStream::Unix)
                })
            }
        };
        Ok(std::iter::from_fn(move || Some(accept().map(|stream| Accepted { stream, kind: kind.clone() }))))
    }
}

impl Accepted {
    /// The address of the client, where it has one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match &self.stream {
            AcceptedStream::Tcp(_, address) => Some(address.ip()),
            #[cfg(unix)]
            AcceptedStream::Unix(_) => None,
        }
    }

    /// The stream of its requests, after the handshake of TLS where that is spoken. It is for the
    /// caller to bound its time.
    pub(super) async fn open(self) -> io::Result<(Stream, Origin)> {
        let origin = Origin { is_local: self.kind.is_local, address: None, has_certificate: false };
        match self.stream {
            AcceptedStream::Tcp(stream, address) => {
                let origin = Origin { address: Some(address.ip()), ..origin };
                // Without it small answers wait for the other side's acknowledgement. It fails on
                // dead connections only.
                let _ = stream.set_nodelay(true);
                #[cfg(feature = "tls")]
                if let Some(tls) = self.kind.tls {
                    return tls.handshake(stream, origin).await;
                }
                Ok((Stream::Tcp(stream), origin))
            }
            #[cfg(unix)]
            AcceptedStream::Unix(stream) => Ok((Stream::Unix(stream), origin)),
        }
    }
}

#[cfg(feature = "tls")]
impl TlsSettings {
    async fn handshake(self, stream: TcpStream, origin: Origin) -> io::Result<(Stream, Origin)> {
        let configs = self.files.current().await;
        let config = if self.is_open { &configs.open_server } else { &configs.server };
        let handshake = tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).into_fallible();
        match handshake.await {
            Ok(stream) => {
                let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                Ok((Stream::Tls(Box::new(stream)), Origin { has_certificate, ..origin }))
            }
            Err((error, stream)) => {
                // The alert that says why is on its way, and so may a first request be.
                linger(stream).await;
                Err(error)
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        let is_local = listener.local_addr().is_ok_and(|address| is_loopback(address.ip()));
        Listener { socket: Socket::Tcp(listener), kind: Kind::new(is_local) }
    }
}

/// A socket that this machine alone can reach, where the rights of its file say who may.
#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Listener { socket: Socket::Unix(listener), kind: Kind::new(true) }
    }
}

impl Kind {
    fn new(is_local: bool) -> Self {
        Kind {
            is_local,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}
