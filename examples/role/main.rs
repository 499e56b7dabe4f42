//! `role`: fathers at the barracks gate ask what their sons have become.
//!
//! The cluster command starts this service three times. People ask its front, peers ask each other,
//! and operators ask its admin port. An SQL table or an HTTP server is the origin.
mod admin;
mod body;
mod config;
mod failure_log;
mod form;
mod front;
mod log;
mod open_files;
mod origin;
mod phase;
mod refusal;
mod request;
mod service;
mod signals;
mod status;
mod text;
mod trust;
mod update;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use config::Config;
use log::Log;

fn main() -> ExitCode {
    let config = Config::read();
    let log = match start_log(&config) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("role: no thread for the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    if config.exit_with_stdin {
        exit_with_stdin();
    }
    let ended = serve(&config);
    if let Err(error) = &ended {
        log.add(format!("role: {error:#}\n").as_bytes());
    }
    log.flush();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start_log(config: &Config) -> io::Result<Log> {
    let log = Log::to(io::stderr())?;
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(to_stderr.with_filter(config.log.clone())).init();
    Ok(log)
}

fn serve(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(service::run(config));
    // A load may still read from its origin. All its waiters have their answer, or its time is up.
    runtime.shutdown_background();
    ended
}

/// Exits when standard input ends, from a thread of its own, so that nothing can delay it.
#[allow(clippy::exit, reason = "the flag asks for an exit at once, whatever else runs")]
fn exit_with_stdin() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
