//! A least-recently-used cache bounded by bytes, and a sharded form for threads.
