//! Free ports for the nodes of a test.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// The first port. All are below those that systems use for outgoing connections, so that no
/// connection takes a port by chance before the node does.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port that was free a moment ago and that no other test of this process gets.
pub fn free() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Concurrent test processes begin in different places.
    let begin = (process::id().wrapping_mul(7_919) % u32::from(COUNT)) as u16;
    loop {
        let offset = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(offset) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
