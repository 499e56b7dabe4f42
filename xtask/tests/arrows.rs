//! Imports that crates of this workspace may have of each other, a table that `cargo metadata` is
//! held against.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::{metadata, packages_in, tree};

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
    assert_eq!(wrong_arrows(&imports()), Vec::<String>::new());
}

#[test]
fn leaves_and_engine_know_nothing_of_http() {
    let imports = imports();
    for name in WITHOUT_HTTP.iter().filter(|name| imports.contains_key(**name)) {
        assert_eq!(http_in(&tree(name, &["--all-features", "-e", "normal,build"])), BTreeSet::new(), "below {name}");
    }
}

#[test]
fn an_import_upwards_is_found() {
    let imports = package("peercache-groupcache", &["peercache-lru", "peercache"]);
    assert_eq!(wrong_arrows(&imports), ["peercache-groupcache imports peercache"]);
}

#[test]
fn a_crate_that_the_table_does_not_know_is_found() {
    assert_eq!(wrong_arrows(&package("peercache-new", &[])), ["peercache-new is not in the table"]);
}

#[test]
fn http_below_a_crate_is_found() {
    let tree = "peercache-groupcache v0.1.0 (/src)\nbytes v1.0.0\nhyper v1.0.0\nhttp v1.0.0 (*)\nhttparse v1.0.0\n";
    assert_eq!(http_in(tree), BTreeSet::from(["http", "hyper"]));
}

/// The names of packages, and of all that each imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn imports() -> Imports {
    let packages = metadata().packages.into_iter();
    packages
        .map(|package| (package.name.to_string(), package.dependencies.into_iter().map(|d| d.name).collect()))
        .collect()
}

fn package(name: &str, imports: &[&str]) -> Imports {
    Imports::from([(name.to_owned(), imports.iter().map(|name| name.to_string()).collect())])
}

fn wrong_arrows(imports: &Imports) -> Vec<String> {
    let known = ARROWS.iter().map(|(name, _)| *name);
    let ours: BTreeSet<&str> = imports.keys().map(String::as_str).chain(known).collect();
    imports.iter().flat_map(|(name, imports)| wrong_arrows_of(name, imports, &ours)).collect()
}

fn wrong_arrows_of(name: &str, imports: &BTreeSet<String>, ours: &BTreeSet<&str>) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name} is not in the table")];
    };
    // A crate may name itself, to have its own features on in its tests.
    let is_wrong = |import: &str| ours.contains(import) && !allowed.contains(&import) && import != name;
    let wrong = imports.iter().filter(|import| is_wrong(import));
    wrong.map(|import| format!("{name} imports {import}")).collect()
}

/// The packages of a tree without prefixes that are about HTTP.
fn http_in(tree: &str) -> BTreeSet<&str> {
    let names = packages_in(tree).into_iter().filter_map(|package| package.split(' ').next());
    names.filter(|name| HTTP.contains(name)).collect()
}
