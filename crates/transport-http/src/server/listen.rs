//! Listening on an address, with a queue for bursts.

use std::io;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// The queue is as long as a [`Server`](crate::Server) takes connections by default: a burst of
/// them fills no queue before they are accepted.
const BACKLOG: u32 = 1_024;

/// Listens on `address`, `HOST:PORT`, with a queue for a burst of 1,024 connections, where tokio's
/// own `bind` has one of 128. A client that finds the queue full waits a second before it tries
/// again. A host that is a name is tried at each of its addresses in turn.
///
/// # Errors
/// A name without an address, or without one that can be listened on.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{address} has no address"));
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart takes the port at once, though connections of the last process linger.
        // Elsewhere it would let two processes share a port.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use super::*;

    /// No connection is accepted, so all of them stand in the queue. One too many would get no
    /// reply and try again after a second.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_burst_of_clients_is_connected_before_any_is_accepted() {
        let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        if longest.trim().parse::<u32>().unwrap() < BACKLOG {
            return eprintln!("skipped: this system's longest queue is {longest}");
        }
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap();
        let clients: Vec<TcpStream> = (0..300).map(connect).collect();
        assert_eq!(clients.len(), 300);
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = listen("127.0.0.1:0").await.unwrap();
        let again = listen(&first.local_addr().unwrap().to_string()).await;
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        assert!(listen("localhost:0").await.unwrap().local_addr().unwrap().ip().is_loopback());
    }
}
