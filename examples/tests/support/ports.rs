use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below where systems take the ports of outgoing connections from, so that nobody gets ours by chance between our
/// look and the node's.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port that was free a moment ago and that no other test of this process gets.
pub fn free() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin in different places.
    let begin = (process::id().wrapping_mul(7_919) % u32::from(COUNT)) as u16;
    loop {
        let offset = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(offset) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
