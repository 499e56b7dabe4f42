//! Tests that need another program, and are left out where it is missing.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Whether `name` is in `PEERCACHE_REQUIRE`, a list with commas. A test that needs it then fails
/// where it is missing.
pub fn is_required(name: &str) -> bool {
    env::var("PEERCACHE_REQUIRE").is_ok_and(|names| names.split(',').any(|required| required.trim() == name))
}

/// Says that a test is left out, and why. If it is required, the test fails.
pub fn skip(name: &str, why: &str) {
    assert!(!is_required(name), "{name} is required, but {why}");
    // Not `eprintln!`, which the test harness hides when a test passes.
    let _ = writeln!(io::stderr(), "skipped: {name}, {why}");
}

/// The path of a program, which is on the PATH or in one of `elsewhere`.
pub fn find_program(name: &str, elsewhere: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    on_path.into_iter().chain(elsewhere).map(|dir| dir.join(name)).find(|program| Path::is_file(program))
}
