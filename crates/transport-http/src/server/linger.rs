//! The closing of a connection so that the last answer arrives.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// The time in which a client has to notice that its connection was closed.
const MAX_LINGER: Duration = Duration::from_secs(2);

/// The bytes that a client may still send meanwhile.
const MAX_LINGER_BYTES: u64 = 1 << 20;

/// Closes a connection so that the last answer on it arrives.
///
/// Bytes that arrive at a closed socket make the system send a reset, and a reset makes the other
/// side throw away all that it has not read yet: the very answer that says why. So this stops
/// sending, and reads until the other side has stopped, too.
pub(super) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let read_to_end = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(MAX_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The connection is closed now, on success and on failure.
    let _ = timeout(MAX_LINGER, read_to_end).await;
}
