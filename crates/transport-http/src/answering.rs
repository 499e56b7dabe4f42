//! What peers are answered, and the server that any router may have.

mod router;

mod answer_get;
mod answer_native;
mod answer_update;
mod many_body;
mod pieces;
mod reply;
mod reply_body;
mod request_body;
mod room;

mod listen;
mod server;

mod linger;
mod seat;
mod stall;
mod timed_body;

pub use listen::listen;
pub use router::PeerServer;
pub use server::Server;
