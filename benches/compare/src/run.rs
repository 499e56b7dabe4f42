//! One run: a server, a client, and an eye on both.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::args::Options;
use crate::args::System;
use crate::build::Programs;
use crate::figures::Figures;
use crate::plan::Cell;
use crate::process::child::{ChildGuard, POLL};
use crate::process::supervisor;
use crate::processes::{Memory, Moment};
use crate::system::Kind;

/// Threads that run code, of each client and each server that can have several.
pub const THREADS: usize = 2;
/// Most connections between a client and its server; what our own pool has by default.
pub const CONNECTIONS: usize = 256;
/// Longest start of a server.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Longest filling and warming up of a client, and longest end after the time it was to take.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// Runs a system at a setting, on these cores.
pub fn run(options: &Options, programs: &Programs, cpus: &[usize], system: System, cell: Cell) -> Result<Figures> {
    let program = programs.of(system);
    let [server_at, client_at] = free_addresses()?;
    let arguments = arguments(options, system, cell, server_at, client_at);
    let server = match system.kind() {
        Kind::Installed { .. } => Server::of_the_machine(system, &program.server, server_at)?,
        Kind::Rust { .. } | Kind::Go => Server::of_ours(&program.server, &arguments)?,
    };
    let client = JsonProgram::start(Command::new(&program.client).arg("client").args(&arguments))?;
    let moment = || Moment::now(client.process.id(), server.id, cpus);

    client.expect("warm", CLIENT_LIMIT)?;
    // It pauses now, so that this is the state before the first get.
    let (before, begun) = (moment()?, Instant::now());
    let line = client.expect("gets", Duration::from_secs_f64(options.seconds) + CLIENT_LIMIT)?;
    let wall = begun.elapsed().as_secs_f64();
    let memory = [Memory::of(client.process.id())?, Memory::of(server.id)?];
    Figures::read(&line, before, moment()?, memory, wall)
}

/// Two ports that nobody has now. Somebody might take one in the moment before our program does;
/// the run fails then.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 2];
    for (address, listener) in addresses.iter_mut().zip(held) {
        *address = listener.and_then(|listener| listener.local_addr()).context("there is no free port")?;
    }
    Ok(addresses)
}

/// The Rust harness and the Go programs take the same ones, but for two.
fn arguments(options: &Options, system: System, cell: Cell, server: SocketAddr, client: SocketAddr) -> Vec<String> {
    let mut arguments = vec![
        format!("--server={server}"),
        format!("--client={client}"),
        format!("--value-bytes={}", cell.value_bytes),
        format!("--keys={}", cell.keys()),
        format!("--threads={THREADS}"),
        format!("--connections={CONNECTIONS}"),
        format!("--callers={}", cell.callers),
        format!("--batch={}", cell.batch),
        format!("--seconds={}", options.seconds),
        format!("--slow-every={}", cell.slow_every()),
    ];
    if system.kind() != Kind::Go {
        arguments.push(format!("--system={system}"));
    }
    if system == System::Redis && options.redis_multiplexed {
        arguments.push("--multiplexed".to_owned());
    }
    arguments
}

/// A server that can be asked. It ends when this is dropped.
struct Server {
    /// The id of the process that does the work.
    id: u32,
    _process: ChildGuard,
    _lines: Option<Receiver<String>>,
}

impl Server {
    /// One that says when it is ready, and ends with its standard input.
    fn of_ours(program: &Path, arguments: &[String]) -> Result<Self> {
        let server = JsonProgram::start(Command::new(program).arg("server").args(arguments))?;
        server.expect("ready", START_LIMIT)?;
        Ok(Server { id: server.process.id(), _process: server.process, _lines: Some(server.lines) })
    }

    /// One that knows nothing of us: it is supervised, and asked for its process id until it
    /// answers.
    fn of_the_machine(system: System, program: &Path, at: SocketAddr) -> Result<Self> {
        let mut command = supervisor::command(program)?;
        command.args(arguments_of_the_machine(system, at.port())).stdout(Stdio::null());
        let mut process = ChildGuard::spawn(&mut command).context("cannot start a copy of xtask")?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match process_id(system, at) {
                Ok(id) => return Ok(Server { id, _process: process, _lines: None }),
                Err(error) if Instant::now() > deadline => return Err(error.context("the server does not answer")),
                Err(_) => thread::sleep(POLL),
            }
            if let Some(status) = process.ended() {
                bail!("the server ended at its start ({status})");
            }
        }
    }
}

fn arguments_of_the_machine(system: System, port: u16) -> Vec<String> {
    let text = match system {
        System::Redis => {
            format!("--port {port} --bind 127.0.0.1 --appendonly no --daemonize no --loglevel warning --save")
        }
        // Root must name a user to be, and others are ignored. Values of 1 MB are over what it
        // takes by default.
        _ => format!("-p {port} -l 127.0.0.1 -U 0 -u nobody -t {THREADS} -m 4096 -I 64m -c 1024"),
    };
    let mut arguments: Vec<String> = text.split(' ').map(String::from).collect();
    if system == System::Redis {
        // No moments at which to save.
        arguments.push(String::new());
    }
    arguments
}

/// Asks the server itself.
fn process_id(system: System, at: SocketAddr) -> Result<u32> {
    let (question, field, end) = match system {
        System::Redis => ("INFO server\r\n", "process_id:", "executable:"),
        _ => ("stats\r\n", "STAT pid ", "END"),
    };
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = String::new();
    for line in BufReader::new(stream.take(1 << 16)).lines() {
        let line = line?;
        if let Some(id) = line.strip_prefix(field) {
            return id.trim().parse().with_context(|| format!("{line:?} is no process id"));
        }
        if line.starts_with(end) {
            break;
        }
        answer.push_str(&line);
    }
    bail!("no process id in {answer:?}")
}

/// A program that tells us lines of JSON.
struct JsonProgram {
    process: ChildGuard,
    lines: Receiver<String>,
}

impl JsonProgram {
    fn start(command: &mut Command) -> Result<Self> {
        command.env_remove("GOGC").env_remove("GODEBUG").env_remove("GOMEMLIMIT");
        let mut process = ChildGuard::spawn(command.stdout(Stdio::piped())).context("cannot start a program")?;
        let stdout = BufReader::new(process.take_stdout().expect("the command's output is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(JsonProgram { process, lines })
    }

    /// The next line, which has this field.
    fn expect(&self, field: &str, limit: Duration) -> Result<Value> {
        let line = match self.lines.recv_timeout(limit) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("no word of `{field}` after {} s", limit.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended before `{field}`, for what it says above"),
        };
        let value: Value = serde_json::from_str(&line).with_context(|| format!("{line:?} is no JSON"))?;
        ensure!(!value[field].is_null(), "{line:?} has no `{field}`");
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(script: &str) -> JsonProgram {
        JsonProgram::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_program_that_ends_early_is_told_from_one_that_is_silent() {
        let error = program("exit 3").expect("warm", CLIENT_LIMIT).unwrap_err();
        assert!(error.to_string().starts_with("it ended before `warm`"), "{error}");
        let error = program("cat").expect("warm", Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "no word of `warm` after 0 s");
    }

    #[test]
    fn a_line_of_another_kind_is_refused() {
        assert!(program("echo '{\"ready\":true}'; cat").expect("warm", CLIENT_LIMIT).is_err());
        assert!(program("echo hello; cat").expect("warm", CLIENT_LIMIT).is_err());
    }

    #[test]
    fn servers_of_the_machine_are_asked_for_their_process_id() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in
                ["$9\r\nredis_version:7\r\nprocess_id:17\r\n", "STAT pid 42\r\nEND\r\n", "STAT uptime 1\r\nEND\r\n"]
            {
                let mut stream = listener.accept().unwrap().0;
                stream.read_exact(&mut [0; 7]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(process_id(System::Redis, at).unwrap(), 17);
        assert_eq!(process_id(System::Memcached, at).unwrap(), 42);
        assert!(process_id(System::Memcached, at).is_err());
    }
}
