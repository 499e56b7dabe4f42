use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reqwest::Client;
use tokio::task::JoinSet;

/// People who ask one front over and over, until they are told to stop or the door is closed.
pub struct Crowd {
    people: JoinSet<()>,
    tally: Arc<PerThreadCounters>,
}

#[derive(Default)]
struct PerThreadCounters {
    leave: AtomicBool,
    answered: AtomicUsize,
    /// What went wrong after a connection was made: a request that was lost.
    lost: std::sync::Mutex<Vec<String>>,
}

impl Crowd {
    /// `count` people at the gate of `front`; each second one makes a new connection for every question.
    pub fn gather(front: &str, count: usize) -> Self {
        let tally = Arc::<PerThreadCounters>::default();
        let mut people = JoinSet::new();
        for person in 0..count {
            let kept_connections = if person % 2 == 0 { 1 } else { 0 };
            let client = Client::builder().no_proxy().pool_max_idle_per_host(kept_connections).build().unwrap();
            people.spawn(ask_on(client, front.to_owned(), person, tally.clone()));
        }
        Crowd { people, tally }
    }

    pub fn answered(&self) -> usize {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Sends everybody home; how many answers there were, and what was lost.
    pub async fn disperse(mut self) -> (usize, Vec<String>) {
        self.tally.leave.store(true, Ordering::Relaxed);
        while let Some(ended) = self.people.join_next().await {
            ended.unwrap();
        }
        (self.answered(), std::mem::take(&mut self.tally.lost.lock().unwrap()))
    }
}

async fn ask_on(client: Client, front: String, person: usize, tally: Arc<PerThreadCounters>) {
    for question in 0_usize.. {
        if tally.leave.load(Ordering::Relaxed) {
            return;
        }
        let answer = match client.get(format!("{front}/raw?name={person}-{}", question % 50)).send().await {
            Ok(answer) => match answer.status().as_u16() {
                200 => answer.bytes().await.map(drop).map_err(|error| format!("{error:?}")),
                status => Err(format!("status {status}")),
            },
            // The door is closed: nothing was asked, so nothing was lost.
            Err(error) if error.is_connect() => return,
            Err(error) => Err(format!("{error:?}")),
        };
        match answer {
            Ok(()) => tally.answered.fetch_add(1, Ordering::Relaxed),
            Err(lost) => return tally.lost.lock().unwrap().push(lost),
        };
    }
}
