//! Tidiness: rules for text that rustfmt and clippy do not have, held over the whole tree.
//!
//! Each rule is a function from text to a list of faults, with tests of its own that show it finds
//! a broken sample. The tests here run one rule each over the tree, and name every fault they find.

mod code_map;
mod columns;
mod docs;
mod header;
mod imports;
mod lengths;
mod match_bool;
mod sentences;
mod tree;
mod words;

use std::fmt::{self, Display};

use tree::{Source, Tree};

/// A place that breaks a rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: String,
    /// Number from 1 on; 0 for the file as a whole.
    line: usize,
    why: String,
}

impl Fault {
    fn new(source: &Source, line: usize, why: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line, why: why.into() }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, why } = self;
        write!(f, "{path}:{line}: {why}")
    }
}

/// Fails with all faults, one on each line.
fn expect_none(faults: impl IntoIterator<Item = Fault>) {
    let faults: Vec<String> = faults.into_iter().map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_file_begins_with_a_line_about_it() {
    expect_none(Tree::read().rust().filter_map(header::faults));
}

#[test]
fn code_ends_at_column_120_and_comments_at_100() {
    let tree = Tree::read();
    expect_none(tree.rust().flat_map(columns::faults_of_rust));
    expect_none([".go", ".toml"].iter().flat_map(|end| tree.with_ending(end)).flat_map(columns::faults_of_comments));
}

#[test]
fn prose_ends_at_column_100() {
    expect_none(Tree::read().markdown().flat_map(columns::faults_of_markdown));
}

#[test]
fn nothing_matches_on_a_bool() {
    expect_none(Tree::read().rust().flat_map(match_bool::faults));
}

#[test]
fn no_library_file_is_long() {
    expect_none(Tree::read().library().filter_map(lengths::faults));
}

#[test]
fn no_word_is_invented() {
    let tree = Tree::read();
    expect_none(tree.rust().chain(tree.markdown()).flat_map(words::faults));
}

#[test]
fn first_sentences_of_docs_stand_alone() {
    expect_none(Tree::read().rust().flat_map(docs::faults));
}

#[test]
fn sentences_are_read_once() {
    let tree = Tree::read();
    expect_none(tree.rust().flat_map(sentences::faults_of_rust));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    expect_none(Tree::read().crates().iter().flat_map(imports::circles));
}

#[test]
fn nothing_is_imported_through_lib() {
    expect_none(Tree::read().crates().iter().flat_map(imports::through_lib));
}

#[test]
fn the_code_map_has_a_row_for_every_file() {
    let tree = Tree::read();
    expect_none(code_map::faults(tree.file("ARCHITECTURE.md"), tree.library()));
}
