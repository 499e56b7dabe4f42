//! The state of the node and of its members, as JSON.

use std::time::Instant;

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use peercache::{Node, PeerState};
use serde_json::{Value, json};

use crate::phase::{Phase, Phases};

/// Shows them. `began` is when this node did.
pub async fn show(State((node, phases, began)): State<(Node, Phases, Instant)>) -> Response {
    let state = match phases.now() {
        Phase::Starting | Phase::Ready => "serving",
        Phase::Draining => "draining",
    };
    let shown = json!({ "node": node.members().self_name(), "state": state, "members": members(&node, state, began) });
    ([(CONTENT_TYPE, "application/json")], shown.to_string()).into_response()
}

/// All members, in the order of the list.
fn members(node: &Node, state: &str, began: Instant) -> Vec<Value> {
    let (view, peers) = (node.members().view(), node.peers());
    let shares = view.shares();
    let member = |(position, name): (usize, &String)| {
        let peer = peers.iter().find(|peer| peer.name == *name);
        let state = match peer.map(|peer| peer.state) {
            None if state == "draining" => "leaving",
            Some(PeerState::Down) => "down",
            _ => "up",
        };
        json!({
            "name": name,
            "me": peer.is_none(),
            "state": state,
            "since_ms": peer.map_or_else(|| began.elapsed(), |peer| peer.since).as_millis() as u64,
            "share": shares.get(position),
            "why": peer.and_then(|peer| peer.why.as_deref()),
            "head_ms": null,
            "same_list": null,
            "undelivered": peer.map_or(0, |peer| peer.undelivered),
        })
    };
    view.names().iter().enumerate().map(member).collect()
}
