//! The origin of the tour: an HTTP service of its own that knows the roles and counts who asks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::{Client, percent_encode};
use crate::process::child::ChildGuard;

/// Longest wait for the origin to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running `role-origin`.
pub struct Origin {
    _process: ChildGuard,
    url: String,
    client: Client,
}

impl Origin {
    /// Starts it on a free port.
    pub fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--exit-with-stdin"]).stdout(Stdio::piped());
        let mut process = ChildGuard::spawn(&mut command).context("cannot start role-origin")?;
        let stdout = process.take_stdout().expect("the command's output is piped");
        let (sender, first_line) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = sender.send(lines.next());
            // Whatever else it says, it must not block on a full pipe.
            lines.for_each(drop);
        });
        let line = first_line.recv_timeout(START_TIMEOUT).ok().flatten();
        let line = line.context("role-origin does not say where it listens")?.context("cannot read role-origin")?;
        let url = line.strip_prefix("listening on ").with_context(|| format!("role-origin said {line:?}"))?;
        Ok(Self { _process: process, url: url.to_owned(), client: Client::new() })
    }

    /// The address, as `role --origin` takes it.
    pub fn template(&self) -> String {
        format!("{}/role?key={{key}}", self.url)
    }

    /// The role of a key, as the origin has it. This request is counted like any other.
    pub fn role(&self, key: &str) -> Result<String> {
        let answer = self.client.get(&format!("{}/role?key={}", self.url, percent_encode(key)))?;
        ensure!(answer.status == 200, "the origin answered {} for {key}", answer.status);
        Ok(answer.body)
    }

    /// Requests so far for one key.
    pub fn count(&self, key: &str) -> Result<u64> {
        self.number(&format!("{}/count?key={}", self.url, percent_encode(key)))
    }

    /// Requests so far for all keys.
    pub fn total(&self) -> Result<u64> {
        self.number(&format!("{}/count", self.url))
    }

    /// Sets how long each answer takes from now on.
    pub fn delay(&self, delay: Duration) -> Result<()> {
        let answer = self.client.put(&format!("{}/delay?ms={}", self.url, delay.as_millis()), "")?;
        ensure!(answer.status < 300, "the origin answered {} to a new delay", answer.status);
        Ok(())
    }

    fn number(&self, url: &str) -> Result<u64> {
        let answer = self.client.get(url)?;
        let number = answer.body.trim().parse();
        number.with_context(|| format!("the origin's count is {:?} (status {})", answer.body, answer.status))
    }
}
