//! Messages of `cargo xtask compare` to people who get it wrong, or have not got what it needs.

use std::process::{Command, Output, Stdio};

fn compare(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peercache-compare"));
    command.args(flags).stdin(Stdio::null());
    command
}

/// Its standard error when it ends with exit code 2, as for every wrong flag.
fn refusal(flags: &[&str]) -> String {
    let output = compare(flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_wrong_system_is_answered_with_the_right_ones() {
    let sentence = refusal(&["--systems", "ours,etcd"]);
    assert!(sentence.contains("write names out of: ours, golang, groupcache-go"), "{sentence}");
}

#[test]
fn no_callers_is_a_wrong_flag() {
    let sentence = refusal(&["--callers", "1,0"]);
    assert!(sentence.contains("write numbers of callers from 1 to 4096"), "{sentence}");
}

#[test]
fn a_size_without_a_meaning_is_a_wrong_flag() {
    let sentence = refusal(&["--values", "1KiB"]);
    assert!(sentence.contains("such as 100B,1KB,1MB"), "{sentence}");
}

#[test]
fn a_wrong_mode_is_answered_with_the_right_ones() {
    let sentence = refusal(&["--modes", "fast"]);
    assert!(sentence.contains("single, batch, slow"), "{sentence}");
}

#[test]
fn no_rounds_no_time_and_no_core_to_spare_are_wrong_flags() {
    assert!(refusal(&["--rounds", "0"]).contains("write a number of rounds"));
    assert!(refusal(&["--seconds", "0"]).contains("write a number of seconds"));
    assert!(refusal(&["--cores-min", "2"]).contains("write a number of cores"));
}

/// Runs it with a path on which there is nothing but a cargo that fails, so that it ends before it
/// builds.
fn without_programs(ci: &str) -> Output {
    let mut command = compare(&["--systems", "golang,redis", "--json"]);
    // Cargo is asked for the workspace first; that works, and no other program is found.
    command.env("PATH", "/nonexistent").env("CI", ci).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("RUSTC", "/nonexistent/rustc").output().unwrap()
}

#[test]
fn what_is_missing_is_skipped_with_a_way_to_get_it() {
    let output = without_programs("");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("skipped: golang, there is no `go` on the path; install Go"), "{said}");
    assert!(said.contains("skipped: redis, there is no `redis-server` on the path; install it"), "{said}");
    assert!(output.stdout.is_empty(), "only JSON may be there");
}

#[test]
fn in_ci_what_is_missing_is_an_error() {
    let output = without_programs("1");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("golang is missing, and in CI nothing may be"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}
