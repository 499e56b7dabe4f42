//! The client side, in reading order: from the pool of peers down to one connection.

pub(crate) mod builder;
pub(crate) mod config;
pub(crate) mod pool;

pub(crate) mod http_peer;
pub(crate) mod peer_state;
pub(crate) mod protocol_state;

pub(crate) mod batch;
pub(crate) mod group_queue;
pub(crate) mod group_queues;
pub(crate) mod merge;
pub(crate) mod pending;
pub(crate) mod queue;
pub(crate) mod queue_state;
pub(crate) mod runtime_queues;
pub(crate) mod sweep;
pub(crate) mod worker;

pub(crate) mod get_http;
pub(crate) mod get_native;
pub(crate) mod probe;
pub(crate) mod send_update;

pub(crate) mod request;
pub(crate) mod response_body;

pub(crate) mod connection;
pub(crate) mod connection_hyper;
pub(crate) mod connection_reqwest;
pub(crate) mod dial;
pub(crate) mod failure;
pub(crate) mod network;
pub(crate) mod open_files;
pub(crate) mod race;
pub(crate) mod resolve;
pub(crate) mod stream;
