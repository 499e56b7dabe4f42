//! The network as the operating system gives it: names and connections. Tests bring their own.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
};

use tokio::net::TcpStream;

/// The network under a pool's connections.
pub(super) trait Network: Send + Sync + 'static {
    /// The addresses of a name. It may block its thread for as long as it likes.
    fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>>;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr) -> Connecting;
}

/// A connection that is being opened.
pub(super) type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The operating system's.
pub(super) struct SystemNetwork;

impl Network for SystemNetwork {
    fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }

    fn connect(&self, address: SocketAddr) -> Connecting {
        Box::pin(TcpStream::connect(address))
    }
}
