//! A probe, as it is answered. Who sends one is there: so it is an announcement, too.

use axum::response::Response;
use http::{StatusCode, request::Parts};

use crate::{server::response::text, server::state::ServerState, wire::identity::Asker};

/// Answers a member that asks for a sign of life. One that was down for this node is up before it
/// has the answer, if it can be reached.
pub(super) async fn answer(state: &ServerState, head: &Parts) -> Response {
    if let Some(asker) = Asker::read(&head.headers) {
        state.groups.members().announced_by(&asker.identity.name).await;
    }
    text(StatusCode::OK, "up\n")
}
