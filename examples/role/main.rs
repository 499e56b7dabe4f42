//! `role`: fathers at the barracks gate ask what their sons have become.
//!
//! The service that the cluster command starts three times: people ask its front, peers ask each other, operators ask
//! its admin side, and an SQL table or an HTTP server knows the answers.
mod admin;
mod body;
mod config;
mod form;
mod front;
mod open_files;
mod origin;
mod phase;
mod service;
mod signals;
mod text;
mod update;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use config::Config;

fn main() -> ExitCode {
    let config = Config::read();
    start_log(&config);
    if config.exit_with_stdin {
        exit_with_stdin();
    }
    match serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("role: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(config: &Config) {
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(to_stderr.with_filter(config.log.clone())).init();
}

fn serve(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(service::run(config));
    // A load may still be reading from its origin. All who waited for it have their answer, or its time is up.
    runtime.shutdown_background();
    ended
}

/// A thread of its own, so that nothing that goes on in this process can hold the exit up.
fn exit_with_stdin() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
