//! The way from a member's address to an open TCP connection: its name is looked up, and its
//! addresses are raced.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpStream, time::Instant};

use crate::{
    address::{Host, MemberAddress},
    client::connection::chained,
    client::failure::Failure,
    client::network::Network,
    client::open_files::OpenFiles,
    client::race::{in_turn, race},
    client::resolve::{CHECK_EVERY, Names},
    file_limit::is_limit,
};

/// Opens the TCP connections of one pool.
pub(super) struct Dialer {
    network: Arc<dyn Network>,
    names: Arc<Names>,
    open_files: Arc<OpenFiles>,
}

/// The address at which a connection of a name ends.
pub(super) struct NamedRoute {
    name: String,
    address: IpAddr,
    /// The time at which it is to be checked next whether the name has left the address.
    next_check: Instant,
}

impl Dialer {
    pub(super) fn new(network: Arc<dyn Network>, open_files: Arc<OpenFiles>) -> Self {
        Dialer { names: Names::new(network.clone()), network, open_files }
    }

    /// Opens a connection to a member. The route is that of its name, if it has one. The caller
    /// bounds the time.
    pub(super) async fn dial(&self, member: &MemberAddress) -> Result<(TcpStream, Option<NamedRoute>), Failure> {
        match member.host() {
            Host::Ip(address) => Ok((self.connect(&[*address], member.port()).await?.0, None)),
            Host::Name(name) => {
                let addresses = self.names.look_up(name).await;
                let addresses = addresses.map_err(|why| Failure::Connect(why.to_string().into()))?;
                let (stream, address) = self.connect(&in_turn(&addresses), member.port()).await?;
                let next_check = Instant::now() + CHECK_EVERY;
                Ok((stream, Some(NamedRoute { name: name.clone(), address, next_check })))
            }
        }
    }

    /// Whether the name of a connection is known to have left the connection's address.
    pub(super) fn has_left(&self, route: &mut NamedRoute, now: Instant) -> bool {
        if now < route.next_check {
            return false;
        }
        route.next_check = now + CHECK_EVERY;
        self.names.has_left(&route.name, route.address)
    }

    /// Connects to the first of these addresses that answers. If no file can be opened any more,
    /// idle connections are closed for it.
    async fn connect(&self, addresses: &[IpAddr], port: u16) -> Result<(TcpStream, IpAddr), Failure> {
        let mut connected = self.race(addresses, port).await;
        if let Err(error) = &connected
            && is_limit(error)
            && self.open_files.close_idle().await
        {
            connected = self.race(addresses, port).await;
        }
        connected.map_err(|error| unconnected(&error))
    }

    async fn race(&self, addresses: &[IpAddr], port: u16) -> io::Result<(TcpStream, IpAddr)> {
        let attempt = |&address: &IpAddr| {
            let connecting = self.network.connect(SocketAddr::new(address, port));
            Box::pin(async move { connecting.await.map(|stream| (stream, address)) })
        };
        let connected = race(addresses.iter().map(attempt)).await;
        connected.unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()))
    }
}

/// Tells a peer that is out of reach from a fault of this node, such as having no file descriptor
/// left.
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
