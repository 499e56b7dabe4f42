use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a client may take to notice that its connection was closed.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How much a client may still send meanwhile.
const LINGER_BYTES_MAX: u64 = 1 << 20;

/// Closes a connection so that what was sent on it last arrives.
///
/// Bytes that arrive at a closed socket make the system send a reset, and a reset makes the other side throw away
/// what it has not read yet: the very answer that says why. So this stops sending, and reads until the other side has
/// stopped, too.
pub(super) async fn linger(mut stream: TcpStream) {
    let read_on = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection is closed now.
    let _ = timeout(LINGER_MAX, read_on).await;
}
