//! README's table of what each crate needs, held against what cargo says.
//!
//! A row is `| you want | crate | needs | packages in all |`. It needs what it imports directly and
//! is no crate of ours; the packages are those below it, itself included, with default features.

mod support;

use std::collections::BTreeSet;
use std::fs;

use support::{metadata, packages_in, root, tree};

/// A crate and what it needs, in README's table or in truth.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Needs {
    name: String,
    direct: BTreeSet<String>,
    packages: usize,
}

#[test]
fn the_table_in_readme_is_what_cargo_says() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows = rows_of_table(&readme).unwrap_or_else(|fault| panic!("README.md: {fault}"));
    let faults: Vec<String> = rows.iter().filter_map(|row| fault(row, &needs_of(&row.name))).collect();
    assert!(faults.is_empty(), "README.md:\n{}", faults.join("\n"));
}

#[test]
fn every_crate_of_ours_is_in_the_table() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows = rows_of_table(&readme).unwrap_or_else(|fault| panic!("README.md: {fault}"));
    let named: BTreeSet<String> = rows.into_iter().map(|row| row.name).collect();
    assert_eq!(named, libraries());
}

#[test]
fn a_row_is_read() {
    let rows =
        rows_of_table(&format!("{HEAD}| keys | `peercache-lru` | `hashbrown`, `bytes` | 12 |\n\nMore.\n")).unwrap();
    assert_eq!(rows, [needs("peercache-lru", &["bytes", "hashbrown"], 12)]);
    let rows = rows_of_table(&format!("{HEAD}| one | `peercache-singleflight` | nothing | 1 |\n")).unwrap();
    assert_eq!(rows, [needs("peercache-singleflight", &[], 1)]);
}

#[test]
fn a_table_that_cannot_be_read_is_a_fault() {
    assert!(rows_of_table("# No table\n").is_err());
    assert!(rows_of_table(&format!("{HEAD}| keys | `peercache-lru` | `bytes` | few |\n")).is_err());
    assert!(rows_of_table(&format!("{HEAD}| keys | `peercache-lru` | `bytes` |\n")).is_err());
}

#[test]
fn another_number_and_other_names_are_faults() {
    let truth = needs("a", &["b", "c"], 5);
    assert_eq!(fault(&truth, &truth), None);
    assert!(fault(&needs("a", &["b", "c"], 6), &truth).unwrap().ends_with("write `a` | `b`, `c` | 5"));
    assert!(fault(&needs("a", &["b"], 5), &truth).is_some());
}

#[test]
fn a_package_below_two_others_counts_once() {
    let tree = "a v1.0.0 (/src)\nb v1.0.0\nc v1.0.0\nb v1.0.0 (*)\nb v2.0.0\n";
    assert_eq!(packages_in(tree).len(), 4);
}

const HEAD: &str = "# A\n\n| you want | crate | needs | packages in all |\n|---|---|---|---|\n";

fn needs(name: &str, direct: &[&str], packages: usize) -> Needs {
    Needs { name: name.to_owned(), direct: direct.iter().map(|name| name.to_string()).collect(), packages }
}

/// The rows below the heading that begins with `you want`.
fn rows_of_table(readme: &str) -> Result<Vec<Needs>, String> {
    let mut lines = readme.lines().skip_while(|line| !line.starts_with("| you want |"));
    lines.next().ok_or("there is no table that begins with `you want`")?;
    lines.skip(1).take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Result<Needs, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [_, name, direct, packages] = cells[..] else {
        return Err(format!("write `you want | crate | needs | packages in all`, not {line}"));
    };
    let name = quoted(name).pop_first().ok_or_else(|| format!("no crate in {line}"))?;
    let packages = packages.parse().map_err(|_| format!("no number of packages in {line}"))?;
    Ok(Needs { name, direct: quoted(direct), packages })
}

/// The words between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn fault(written: &Needs, truth: &Needs) -> Option<String> {
    let Needs { name, direct, packages } = truth;
    let direct: Vec<String> = direct.iter().map(|name| format!("`{name}`")).collect();
    let direct = if direct.is_empty() { "nothing".to_owned() } else { direct.join(", ") };
    (written != truth).then(|| format!("{name} is not as written; write `{name}` | {direct} | {packages}"))
}

fn needs_of(name: &str) -> Needs {
    let below = tree(name, &["-e", "normal", "--depth", "1"]);
    let names = packages_in(&below).into_iter().filter_map(|package| package.split(' ').next());
    let direct = names.filter(|name| !name.starts_with("peercache")).map(str::to_owned).collect();
    Needs { name: name.to_owned(), direct, packages: packages_in(&tree(name, &["-e", "normal"])).len() }
}

/// The names of the packages in `crates/`.
fn libraries() -> BTreeSet<String> {
    let crates = root().join("crates");
    let packages = metadata().packages.into_iter().filter(|package| package.manifest_path.starts_with(&crates));
    packages.map(|package| package.name.to_string()).collect()
}
