//! Messages of `cargo xtask` to people who get it wrong, and the end of supervised programs with
//! xtask.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far longer than any of these takes: a test that fails says so rather than hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn xtask(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Its standard error when it ends with exit code 2, as for every wrong flag.
fn refusal(arguments: &[&str]) -> String {
    let output = xtask(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn no_nodes_is_a_wrong_flag() {
    let sentence = refusal(&["cluster", "--nodes", "0"]);
    assert!(sentence.contains("write a number of nodes from 1 to 90"), "{sentence}");
}

#[test]
fn too_many_nodes_is_a_wrong_flag() {
    let sentence = refusal(&["cluster", "--nodes", "91"]);
    assert!(sentence.contains("write a number of nodes from 1 to 90"), "{sentence}");
}

#[test]
fn ports_beyond_the_last_are_a_wrong_flag() {
    let sentence = refusal(&["cluster", "--base-port", "65500"]);
    assert!(sentence.contains("write 65342 or less"), "{sentence}");
}

#[test]
fn sabotage_without_a_tour_is_a_wrong_flag() {
    let sentence = refusal(&["cluster", "--sabotage"]);
    assert!(sentence.contains("--demo"), "{sentence}");
}

#[test]
fn no_room_is_a_wrong_flag() {
    let sentence = refusal(&["hit-ratio", "--entries", "0"]);
    assert!(sentence.contains("write numbers from 1 to"), "{sentence}");
}

#[test]
fn more_room_than_there_can_be_is_a_wrong_flag() {
    let sentence = refusal(&["hit-ratio", "--entries", "5,99999999999999999999"]);
    assert!(sentence.contains("write numbers from 1 to"), "{sentence}");
}

#[test]
fn an_unknown_policy_is_a_wrong_flag_and_the_known_are_named() {
    let sentence = refusal(&["hit-ratio", "--policy", "fifo"]);
    assert!(sentence.contains("belady") && sentence.contains("golang"), "{sentence}");
}

#[test]
fn a_policy_that_is_not_for_nodes_is_a_wrong_flag() {
    let sentence = refusal(&["hit-ratio", "--nodes", "3", "--policy", "default,belady"]);
    assert!(sentence.contains("with --nodes write default, golang or lru"), "{sentence}");
}

#[test]
fn a_trace_that_is_not_there_is_a_wrong_flag() {
    let sentence = refusal(&["hit-ratio", "--trace", "/nonexistent", "--entries", "5"]);
    assert!(sentence.contains("there is no file /nonexistent"), "{sentence}");
}

#[test]
fn a_plot_that_is_no_svg_is_a_wrong_flag() {
    let sentence = refusal(&["hit-ratio", "--plot", "plot.png"]);
    assert!(sentence.contains("ends with .svg"), "{sentence}");
}

#[test]
fn a_wrong_flag_of_compare_is_refused_before_anything_is_built() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["compare", "--systems", "ours,etcd"]).env("CARGO", "/nonexistent").stdin(Stdio::null());
    let output = command.output().unwrap();
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert!(sentence.contains("write names out of: ours, golang, groupcache-go"), "{sentence}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_port_in_use_is_told_before_anything_is_built() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let base = (port - 1).to_string();
    // Without a cargo to run: it must not come so far.
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["cluster", "--nodes", "1", "--base-port", &base]).env("CARGO", "/nonexistent").stdin(Stdio::null());
    let output = command.output().unwrap();
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert!(sentence.contains(&format!("port {port} (front of node 1) is in use")), "{sentence}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_supervised_program_ends_when_xtask_does() {
    let mut supervisor = supervise(&["sh", "-c", "echo started; sleep 1000; echo survived"]);
    let mut stdout = BufReader::new(supervisor.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    // What the kernel does when the holder of the other end dies, of whatever.
    drop(supervisor.stdin.take());
    // The shell and its `sleep` hold the pipe as well: its end is the end of all.
    assert_eq!(until_closed(stdout), "");
    supervisor.wait().unwrap();
}

#[test]
fn a_supervisor_passes_on_the_exit_code() {
    let mut supervisor = supervise(&["sh", "-c", "exit 7"]);
    // `wait` would close it first, and so end the program.
    let _stdin = supervisor.stdin.take();
    assert_eq!(supervisor.wait().unwrap().code(), Some(7));
}

#[test]
fn a_supervisor_passes_on_the_arguments() {
    let mut supervisor = supervise(&["printf", "%s|", "--version", "a b"]);
    assert_eq!(until_closed(supervisor.stdout.take().unwrap()), "--version|a b|");
    supervisor.wait().unwrap();
}

fn supervise(program: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["supervise", "--"]).args(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn until_closed(mut stdout: impl Read + Send + 'static) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        sender.send(rest)
    });
    receiver.recv_timeout(PATIENCE).expect("nobody holds the pipe for ever")
}
