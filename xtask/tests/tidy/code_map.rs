//! The code map of ARCHITECTURE.md has a row for every file of every library, and for no other.
//!
//! A section that begins with the `src` of a crate has the crate's table, whose rows begin with the
//! path of a file in it.

use std::collections::BTreeMap;

use super::Fault;
use super::tree::Source;

pub fn faults<'a>(architecture: &Source, files: impl Iterator<Item = &'a Source>) -> Vec<Fault> {
    let mut rows = rows(&architecture.text);
    let mut faults = Vec::new();
    for file in files {
        let lines = rows.remove(&file.path).unwrap_or_default();
        if lines.len() != 1 {
            let why = format!("the code map of ARCHITECTURE.md has {} rows for it, and should have one", lines.len());
            faults.push(Fault::new(file, 0, why));
        }
    }
    let gone = rows.into_iter().map(|(path, lines)| Fault::new(architecture, lines[0], format!("there is no {path}")));
    faults.extend(gone);
    faults
}

/// The lines of the rows for each path.
fn rows(text: &str) -> BTreeMap<String, Vec<usize>> {
    let mut rows: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut src = None;
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('#') {
            src = quoted(line.trim_start_matches('#')).filter(|name| name.ends_with("/src"));
        } else if let (Some(src), Some(path)) = (src, line.strip_prefix('|').and_then(quoted)) {
            rows.entry(format!("{src}/{path}")).or_default().push(number);
        }
    }
    rows
}

/// The name in backticks that a text begins with.
fn quoted(text: &str) -> Option<&str> {
    Some(text.trim_start().strip_prefix('`')?.split_once('`')?.0)
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    const HOT: &str = "crates/a/src/hot.rs";
    const BUDGET: &str = "crates/a/src/cache/budget.rs";

    fn faults_of(map: &str, paths: &[&str]) -> Vec<String> {
        let files: Vec<Source> = paths.iter().map(|path| sample(path, "")).collect();
        let text = format!("# Architecture\n### `crates/a/src`: an engine\n| file | decides |\n|---|---|\n{map}\n");
        let faults = faults(&sample("ARCHITECTURE.md", &text), files.iter());
        faults.into_iter().map(|fault| format!("{}:{}", fault.path, fault.line)).collect()
    }

    #[test]
    fn a_row_for_each_file_is_good() {
        assert_eq!(faults_of("| `hot.rs` | copies |\n| `cache/budget.rs` | bytes |", &[HOT, BUDGET]), [""; 0]);
    }

    #[test]
    fn a_file_without_a_row_of_its_own_is_a_fault() {
        let rows = "| `cache/hot.rs`, `hot.rs` | copies |\nSee `hot.rs`.\n| a | `hot.rs` |";
        assert_eq!(faults_of(rows, &["crates/a/src/cache/hot.rs", HOT]), [format!("{HOT}:0")]);
        let elsewhere = "### `crates/b/src`\n| `hot.rs` | copies |\n";
        assert_eq!(faults_of(elsewhere, &[HOT]), [format!("{HOT}:0"), "ARCHITECTURE.md:6".to_owned()]);
    }

    #[test]
    fn two_rows_for_a_file_are_a_fault() {
        assert_eq!(faults_of("| `hot.rs` | copies |\n| `hot.rs` | again |", &[HOT]), [format!("{HOT}:0")]);
    }

    #[test]
    fn a_row_for_no_file_is_a_fault() {
        assert_eq!(faults_of("| `hot.rs` | copies |\n| `gone.rs` | a |", &[HOT]), ["ARCHITECTURE.md:6"]);
    }

    #[test]
    fn tables_of_other_sections_are_no_map() {
        assert_eq!(faults_of("| `hot.rs` | copies |\n### Around\n| `benches/` | a |", &[HOT]), [""; 0]);
    }
}
