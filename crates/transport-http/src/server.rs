//! The server side, in reading order: the answers to peers, and the server that any router may
//! have.

pub(crate) mod access;
pub(crate) mod router;
pub(crate) mod state;

pub(crate) mod get_http;
pub(crate) mod get_native;
pub(crate) mod receive_update;

pub(crate) mod arriving_bytes;
pub(crate) mod batch_body;
pub(crate) mod prefixed_body;
pub(crate) mod reply_frames;
pub(crate) mod request_body;
pub(crate) mod response;
pub(crate) mod single_body;

pub(crate) mod permits;
pub(crate) mod ready_values;
pub(crate) mod response_budget;

pub(crate) mod http_server;
pub(crate) mod listen;
pub(crate) mod listener;
pub(crate) mod settings;

pub(crate) mod acceptor;
pub(crate) mod connection;
pub(crate) mod head_timeout;
pub(crate) mod health;
pub(crate) mod linger;
pub(crate) mod read_timeout;
pub(crate) mod serve_connection;
pub(crate) mod stream;
pub(crate) mod timed_io;
pub(crate) mod write_timeout;
