//! Load on a front: many clients, and the requests that they lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reqwest::Client;
use tokio::task::JoinSet;

/// Clients that ask one front over and over, until they are told to stop or it refuses connections.
pub struct Crowd {
    clients: JoinSet<()>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    answered: AtomicUsize,
    /// The requests that were lost: those that failed after a connection was made.
    lost: std::sync::Mutex<Vec<String>>,
}

impl Crowd {
    /// Starts `count` clients of `front`. Each second one makes a new connection for every request.
    pub fn gather(front: &str, count: usize) -> Self {
        let counters = Arc::<Counters>::default();
        let mut clients = JoinSet::new();
        for person in 0..count {
            let kept_connections = if person % 2 == 0 { 1 } else { 0 };
            let client = Client::builder().no_proxy().pool_max_idle_per_host(kept_connections).build().unwrap();
            clients.spawn(ask_on(client, front.to_owned(), person, counters.clone()));
        }
        Crowd { clients, counters }
    }

    pub fn answered(&self) -> usize {
        self.counters.answered.load(Ordering::Relaxed)
    }

    /// Stops all clients, and returns the number of answers and the requests lost.
    pub async fn disperse(mut self) -> (usize, Vec<String>) {
        self.counters.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        (self.answered(), std::mem::take(&mut self.counters.lost.lock().unwrap()))
    }
}

async fn ask_on(client: Client, front: String, person: usize, counters: Arc<Counters>) {
    for question in 0_usize.. {
        if counters.stop.load(Ordering::Relaxed) {
            return;
        }
        let answer = match client.get(format!("{front}/raw?name={person}-{}", question % 50)).send().await {
            Ok(answer) => match answer.status().as_u16() {
                200 => answer.bytes().await.map(drop).map_err(|error| format!("{error:?}")),
                status => Err(format!("status {status}")),
            },
            // The port is closed: no request was sent, so none was lost.
            Err(error) if error.is_connect() => return,
            Err(error) => Err(format!("{error:?}")),
        };
        match answer {
            Ok(()) => counters.answered.fetch_add(1, Ordering::Relaxed),
            Err(lost) => return counters.lost.lock().unwrap().push(lost),
        };
    }
}
