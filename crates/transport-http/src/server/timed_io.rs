//! A stream whose reads and writes are measured.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::server::{head_timeout::HeadTimeout, write_timeout::WriteTimeout};

/// A stream that fails when no request comes in time, and when the other side does not take what is
/// written to it.
pub(super) struct TimedIo<T> {
    io: T,
    head: HeadTimeout,
    write: WriteTimeout,
}

impl<T> TimedIo<T> {
    pub(super) fn new(io: T, head: HeadTimeout, write: WriteTimeout) -> Self {
        TimedIo { io, head, write }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// Whether its time was over before a request had come.
    pub(super) fn has_timed_out(&self) -> bool {
        self.head.has_timed_out()
    }
}

impl<T: Read + Unpin> Read for TimedIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.head.account(cx, read)
    }
}

impl<T: Write + Unpin> Write for TimedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.write.account(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.write.account(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
