//! Any bytes as frames. `cargo +nightly fuzz run frames` in the directory of the crate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peercache_transport_http::read_as_both_sides;

fuzz_target!(|bytes: &[u8]| read_as_both_sides(bytes));
