//! `role-origin` is an HTTP origin for `role` that counts its requests, to show how few there are.
mod form;
mod soldiers;

use std::{
    collections::HashMap,
    future::pending,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::{get, put},
};
use clap::Parser;
use peercache::Server;

/// The most keys that are counted one by one. Requests for others are only in the total.
const KEYS_MAX: usize = 1_000_000;

/// An HTTP origin for role: it knows the soldiers that role-seed makes and counts its requests.
///
/// GET /role?key=K -> 200 with the role, 404 for strangers. GET /count -> the number of requests
/// for /role, GET /count?key=K -> those for this key. PUT /delay?ms=N -> answer N milliseconds late
/// from now on.
#[derive(Parser)]
#[command(name = "role-origin", version)]
struct Arguments {
    /// The address to listen at; it is the first line on standard output
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,

    /// The delay of each answer to /role, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u64,

    /// Exit as soon as standard input ends
    #[arg(long)]
    exit_with_stdin: bool,
}

/// The requests so far.
struct Counts {
    delay_ms: AtomicU64,
    asked: AtomicU64,
    asked_by_key: Mutex<HashMap<Vec<u8>, u64>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.exit_with_stdin {
        exit_with_stdin();
    }
    let counts = Counts {
        delay_ms: AtomicU64::new(arguments.delay_ms),
        asked: AtomicU64::default(),
        asked_by_key: Mutex::default(),
    };
    let app = Router::new()
        .route("/role", get(role))
        .route("/count", get(count))
        .route("/delay", put(delay))
        .with_state(Arc::new(counts));
    let listener = peercache::listen(&arguments.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Server::new(app).serve(listener, pending()).await?;
    Ok(())
}

#[allow(clippy::exit, reason = "the flag asks for an exit at once, whatever else runs")]
fn exit_with_stdin() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}

async fn role(State(counts): State<Arc<Counts>>, RawQuery(query): RawQuery) -> Result<&'static str, StatusCode> {
    let key = form::field(query.as_deref(), "key").ok_or(StatusCode::BAD_REQUEST)?;
    let role = std::str::from_utf8(&key).ok().and_then(soldiers::role_of);
    counts.add(key);
    tokio::time::sleep(Duration::from_millis(counts.delay_ms.load(Ordering::Relaxed))).await;
    role.ok_or(StatusCode::NOT_FOUND)
}

async fn count(State(counts): State<Arc<Counts>>, RawQuery(query): RawQuery) -> String {
    match form::field(query.as_deref(), "key") {
        Some(key) => counts.of(&key).to_string(),
        None => counts.asked.load(Ordering::Relaxed).to_string(),
    }
}

async fn delay(State(counts): State<Arc<Counts>>, RawQuery(query): RawQuery) -> StatusCode {
    let ms = form::field(query.as_deref(), "ms").and_then(|ms| std::str::from_utf8(&ms).ok()?.parse().ok());
    match ms {
        Some(ms) => {
            counts.delay_ms.store(ms, Ordering::Relaxed);
            StatusCode::NO_CONTENT
        }
        None => StatusCode::BAD_REQUEST,
    }
}

impl Counts {
    fn add(&self, key: Vec<u8>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut asked_by_key = self.asked_by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_by_key.len() < KEYS_MAX || asked_by_key.contains_key(&key) {
            *asked_by_key.entry(key).or_default() += 1;
        }
    }

    fn of(&self, key: &[u8]) -> u64 {
        self.asked_by_key.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(0)
    }
}
