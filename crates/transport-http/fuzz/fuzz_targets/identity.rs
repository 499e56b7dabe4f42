//! Any bytes as identity headers. `cargo +nightly fuzz run identity` in the directory of the crate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peercache_transport_http::read_identity;

fuzz_target!(|bytes: &[u8]| read_identity(bytes));
