//! The answering side: what peers are answered, and the server that any router may have.

pub(crate) mod router;

pub(crate) mod batch_body;
pub(crate) mod get_http;
pub(crate) mod get_native;
pub(crate) mod prefixed_body;
pub(crate) mod ready_values;
pub(crate) mod receive_update;
pub(crate) mod reply_frames;
pub(crate) mod request_body;
pub(crate) mod response_budget;
pub(crate) mod single_body;

pub(crate) mod accept;
pub(crate) mod listen;

pub(crate) mod connection_slot;
pub(crate) mod linger;
pub(crate) mod read_timeout;
pub(crate) mod write_timeout;
