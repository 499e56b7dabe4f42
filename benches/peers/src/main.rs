//! Our node and its rivals, each as a server and a client in a process of its own, for `cargo xtask
//! compare`.
//!
//! A server prints a line when it can be asked. A client fills the server with values, asks for
//! them for a while, prints a line, pauses so that somebody can look at the CPU time of both, asks
//! for the measured time, and prints what came of it. Both end when their standard input does.
//! README.md has the lines.

mod measure;
mod setting;
mod system;
mod systems;

use std::{
    io,
    process::{self, ExitCode},
    thread,
};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tokio::runtime;

use setting::Setting;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// The member that owns the keys.
    Server(Setting),
    /// The member, or client, that asks.
    Client(Setting),
}

fn main() -> ExitCode {
    thread::spawn(end_with_stdin);
    let role = Cli::parse().role;
    let (Role::Server(setting) | Role::Client(setting)) = &role;
    let threads = setting.threads;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let result = runtime.expect("a runtime starts").block_on(run(role));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this program when the one that started it has gone, or wants it to go. A thread of its own,
/// for a read of tokio's would hold up the end of the runtime.
fn end_with_stdin() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    process::exit(0);
}

async fn run(role: Role) -> Result<()> {
    match role {
        Role::Server(setting) => {
            let serving = systems::serve(&setting).await?;
            say(&serde_json::json!({ "ready": true }));
            serving.await
        }
        Role::Client(setting) => {
            ask(setting).await?;
            // Somebody is to look at our memory.
            std::future::pending().await
        }
    }
}

async fn ask(setting: Setting) -> Result<()> {
    match setting.system.as_str() {
        "ours" => measure::client(systems::ours::Ours::join(&setting).await?, setting).await,
        "memcached" => measure::client(systems::memcached::Memcached::connect(&setting).await?, setting).await,
        #[cfg(feature = "groupcache")]
        "groupcache" => measure::client(systems::original::Rival::join(&setting).await?, setting).await,
        #[cfg(feature = "groupcache-ng")]
        "groupcache-ng" => measure::client(systems::ng::Rival::join(&setting).await?, setting).await,
        #[cfg(feature = "redis")]
        "redis" => measure::client(systems::redis::Redis::connect(&setting).await?, setting).await,
        other => bail!("this program was built without a client for {other}"),
    }
}

fn say(line: &serde_json::Value) {
    println!("{line}");
}
