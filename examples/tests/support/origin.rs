//! An HTTP origin in the test process, which counts, waits and fails as the test says.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http_body::Frame;
use peercache::Server;
use percent_encoding::percent_decode_str;
use tokio::{net::TcpListener, sync::watch};

use super::within;

pub const VALUE_BYTES_MAX: usize = 32 << 20;

/// An origin in this process.
///
/// Its answer depends on the beginning of the key, see [`answer`]. Any other key has the value that
/// the test has set, or else its own text with `the ` before it.
pub struct Origin {
    address: String,
    seen: Arc<Seen>,
}

struct Seen {
    asked: watch::Sender<HashMap<Vec<u8>, usize>>,
    gate: watch::Sender<bool>,
    endless_bytes: AtomicU64,
    failing: Mutex<bool>,
    values: Mutex<HashMap<Vec<u8>, String>>,
}

impl Origin {
    pub async fn start() -> Self {
        let seen = Arc::new(Seen {
            asked: watch::Sender::default(),
            gate: watch::Sender::new(false),
            endless_bytes: AtomicU64::default(),
            failing: Mutex::default(),
            values: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/value", get(answer)).with_state(seen.clone());
        tokio::spawn(Server::new(app).max_connections(10_000).serve(listener, std::future::pending()));
        Origin { address, seen }
    }

    /// The value of the flag `--origin` for a node.
    pub fn flag(&self) -> String {
        format!("{}/value?key={{key}}", self.address)
    }

    /// The number of requests for this key.
    pub fn loads(&self, key: impl AsRef<[u8]>) -> usize {
        self.seen.asked.borrow().get(key.as_ref()).copied().unwrap_or(0)
    }

    pub fn loads_of_all(&self) -> usize {
        self.seen.asked.borrow().values().sum()
    }

    /// The number of different keys that were asked for.
    pub fn keys(&self) -> usize {
        self.seen.asked.borrow().len()
    }

    /// Waits until `count` keys that begin so are being loaded or were.
    pub async fn is_asked(&self, prefix: &str, count: usize) {
        let begun = |asked: &HashMap<Vec<u8>, usize>| {
            asked.keys().filter(|key| key.starts_with(prefix.as_bytes())).count() >= count
        };
        let mut asked = self.seen.asked.subscribe();
        within(&format!("loads of {count} keys {prefix}.."), asked.wait_for(begun)).await.unwrap();
    }

    /// Sets the value of `key`.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl Into<String>) {
        self.seen.values.lock().unwrap().insert(key.as_ref().to_vec(), value.into());
    }

    /// Answers all requests that wait, now and later.
    pub fn open_gate(&self) {
        self.seen.gate.send_replace(true);
    }

    /// Lets later requests wait again.
    pub fn close_gate(&self) {
        self.seen.gate.send_replace(false);
    }

    /// The number of bytes written of endless bodies.
    pub fn endless_bytes(&self) -> u64 {
        self.seen.endless_bytes.load(Ordering::Relaxed)
    }

    /// Answers all requests with an error from now on, or no longer.
    pub fn fail(&self, failing: bool) {
        *self.seen.failing.lock().unwrap() = failing;
    }
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let query = request.uri().query().expect("the origin is asked with a query");
    let escaped = query.strip_prefix("key=").expect("the query is one key");
    let key: Vec<u8> = percent_decode_str(escaped).collect();
    seen.asked.send_modify(|asked| *asked.entry(key.clone()).or_default() += 1);
    if *seen.failing.lock().unwrap() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    // The value of this moment, as a database would answer, however long the answer takes.
    let own_value = seen.values.lock().unwrap().get(&key).map(|value| value.clone().into_bytes());
    let own_value = own_value.unwrap_or_else(|| [b"the ", &key[..]].concat()).into_response();
    let begins = |prefix: &str| key.starts_with(prefix.as_bytes());
    match () {
        () if begins("nobody") => StatusCode::NOT_FOUND.into_response(),
        () if begins("broken") => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        () if begins("moved") => (StatusCode::FOUND, [(LOCATION, "/value?key=a")]).into_response(),
        () if begins("empty") => "".into_response(),
        () if begins("binary") => [&b"\xFFa\0"[..], &key].concat().into_response(),
        () if begins("3 MiB") => vec![b'x'; 3 << 20].into_response(),
        () if begins("longest") => vec![b'x'; VALUE_BYTES_MAX].into_response(),
        () if begins("too long") => vec![b'x'; VALUE_BYTES_MAX + 1].into_response(),
        () if begins("endless") => Body::new(Endless(seen)).into_response(),
        () if begins("gated") => {
            let opened = seen.gate.subscribe().wait_for(|open| *open).await.is_ok();
            assert!(opened, "the gate lives as long as the origin");
            own_value
        }
        () if begins("3 s") => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            own_value
        }
        () => own_value,
    }
}

/// A body that goes on until its reader stops, and does not announce its length.
struct Endless(Arc<Seen>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
        self.0.endless_bytes.fetch_add(PIECE.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}
