//! Cargo, asked about this workspace.

#![allow(dead_code, reason = "each test has use for a part")]

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use cargo_metadata::{Metadata, MetadataCommand};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The members of the workspace.
pub fn metadata() -> Metadata {
    MetadataCommand::new().current_dir(root()).no_deps().other_options(["--locked".to_owned()]).exec().unwrap()
}

/// The output of `cargo tree -p NAME` without prefixes, a package on each line.
pub fn tree(name: &str, more: &[&str]) -> String {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args(["tree", "-p", name, "--prefix", "none", "--locked"]).args(more);
    let output = cargo.current_dir(root()).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{cargo:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of such an output. It marks those that it has shown before.
pub fn packages_in(tree: &str) -> BTreeSet<&str> {
    tree.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect()
}
