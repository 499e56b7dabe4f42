//! Imports that crates of this workspace may have of each other, a table that `cargo metadata` is
//! held against.

use std::collections::BTreeSet;
use std::env;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A crate of ours, and the crates of ours that it may import: for building, testing, anything.
const ARROWS: &[(&str, &[&str])] = &[
    ("peercache-lru", &[]),
    ("peercache-consistenthash", &[]),
    ("peercache-singleflight", &[]),
    ("peercache-groupcache", LEAVES),
    ("peercache-transport-http", &["peercache-groupcache"]),
    ("peercache-discovery", &["peercache-groupcache"]),
    ("peercache", LOWER),
    ("peercache-examples", ALL),
    ("peercache-replay", REPLAYED),
    ("peercache-benches", BENCHED),
    ("peercache-compare", &[]),
    ("xtask", &[]),
];
const LEAVES: &[&str] = &["peercache-lru", "peercache-consistenthash", "peercache-singleflight"];
const LOWER: &[&str] = &[
    "peercache-lru",
    "peercache-consistenthash",
    "peercache-singleflight",
    "peercache-groupcache",
    "peercache-transport-http",
    "peercache-discovery",
];
/// Crates that traces are replayed through.
const REPLAYED: &[&str] = &["peercache-lru", "peercache-groupcache"];
const ALL: &[&str] = &[
    "peercache-lru",
    "peercache-consistenthash",
    "peercache-singleflight",
    "peercache-groupcache",
    "peercache-transport-http",
    "peercache-discovery",
    "peercache",
];

/// All, and what benches have for themselves.
const BENCHED: &[&str] = &[
    "peercache-lru",
    "peercache-consistenthash",
    "peercache-singleflight",
    "peercache-groupcache",
    "peercache-transport-http",
    "peercache-discovery",
    "peercache",
    "peercache-replay",
];

/// Crates that know nothing of HTTP or protobuf, not even through what they import.
const WITHOUT_HTTP: &[&str] =
    &["peercache-lru", "peercache-consistenthash", "peercache-singleflight", "peercache-groupcache"];
/// Packages by which a crate would know of them.
const HTTP: &[&str] = &["http", "http-body", "hyper", "hyper-util", "h2", "reqwest", "axum", "tonic", "tower", "prost"];

#[test]
fn no_crate_imports_what_it_should_not() {
    assert_eq!(wrong_arrows(&metadata()), Vec::<String>::new());
}

#[test]
fn leaves_and_engine_know_nothing_of_http() {
    let metadata = metadata();
    let members = names(&metadata);
    for name in WITHOUT_HTTP.iter().filter(|name| members.contains(**name)) {
        let arguments = ["tree", "-p", name, "--all-features", "-e", "normal,build", "--prefix", "none", "--locked"];
        assert_eq!(http_in(&cargo(&arguments)), BTreeSet::new(), "below {name}");
    }
}

#[test]
fn an_import_upwards_is_found() {
    let metadata = json!({ "packages": [package("peercache-groupcache", &["peercache-lru", "peercache"])] });
    assert_eq!(wrong_arrows(&metadata), ["peercache-groupcache imports peercache"]);
}

#[test]
fn a_crate_that_the_table_does_not_know_is_found() {
    let metadata = json!({ "packages": [package("peercache-new", &[])] });
    assert_eq!(wrong_arrows(&metadata), ["peercache-new is not in the table"]);
}

#[test]
fn http_below_a_crate_is_found() {
    let tree = "peercache-groupcache v0.1.0 (/src)\nbytes v1.0.0\nhyper v1.0.0\nhttp v1.0.0 (*)\nhttparse v1.0.0\n";
    assert_eq!(http_in(tree), BTreeSet::from(["http", "hyper"]));
}

fn wrong_arrows(metadata: &Value) -> Vec<String> {
    let ours = names(metadata).into_iter().chain(ARROWS.iter().map(|(name, _)| *name)).collect::<BTreeSet<_>>();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().flat_map(|package| wrong_arrows_of(package, &ours)).collect()
}

fn wrong_arrows_of(package: &Value, ours: &BTreeSet<&str>) -> Vec<String> {
    let name = package["name"].as_str().unwrap();
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name} is not in the table")];
    };
    let imports = package["dependencies"].as_array().unwrap().iter().map(|import| import["name"].as_str().unwrap());
    // A crate may name itself, to have its own features on in its tests.
    let wrong = imports.filter(|import| ours.contains(import) && !allowed.contains(import) && *import != name);
    wrong.map(|import| format!("{name} imports {import}")).collect()
}

/// The packages of a tree without prefixes that are about HTTP.
fn http_in(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| HTTP.contains(name)).collect()
}

fn names(metadata: &Value) -> BTreeSet<&str> {
    metadata["packages"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect()
}

fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"])).unwrap()
}

fn package(name: &str, imports: &[&str]) -> Value {
    let imports: Vec<Value> = imports.iter().map(|import| json!({ "name": import })).collect();
    json!({ "name": name, "dependencies": imports })
}

fn cargo(arguments: &[&str]) -> String {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
