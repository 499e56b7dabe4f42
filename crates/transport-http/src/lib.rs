//! Peers over HTTP for peercache: the client pool and the server, native and golang dialects.
