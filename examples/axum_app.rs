//! A group in an axum application: the peers' paths are merged into its router, and one port serves
//! both.
use std::error::Error;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use peercache::{Group, Key, LoadError, Loaded, Loader, Node, Server, listen};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = listen("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);

    let node = Node::builder(&address).build()?;
    let squares = node.group("squares", Squares).max_bytes(1 << 20).build()?;
    let app = Router::new().route("/square/{number}", get(square)).with_state(squares).merge(node.router());
    // Like `axum::serve`, with bounds on the connections and memory of slow and silent clients.
    tokio::spawn(Server::new(app).serve(listener, std::future::pending()));

    // A request of the application's own users.
    let answer = reqwest::get(format!("{address}/square/12")).await?.text().await?;
    println!("12 squared is {answer}");
    assert_eq!(answer, "144");
    assert_eq!(reqwest::get(format!("{address}/square/twelve")).await?.status(), 404);

    // A request of a peer, here in the dialect of a Go peer.
    let answer = reqwest::get(format!("{address}/_groupcache/squares/12")).await?.bytes().await?;
    println!("as a peer reads it: {answer:?}");
    assert_eq!(answer, &b"\x0a\x03144"[..]);
    Ok(())
}

async fn square(State(squares): State<Group<String>>, Path(number): Path<String>) -> Result<String, StatusCode> {
    squares
        .get(&number)
        .await
        .map_err(|error| if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY })
}

/// A loader with a type of its own, where a closure is not enough.
struct Squares;

impl Loader for Squares {
    type Value = String;

    async fn load(&self, key: Key) -> Result<Loaded<String>, LoadError> {
        let number: u64 = key.as_str()?.parse().map_err(|_| LoadError::not_found())?;
        let square = number.checked_mul(number).ok_or("too large to square")?;
        Ok(Loaded::new(square.to_string()))
    }
}
