//! The files that rules are held over.

use std::fs;
use std::path::{Path, PathBuf};

/// A file, under its path from the root of the workspace.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// A library, a program, or the `support` that programs share.
pub struct Crate<'a> {
    /// The folder that paths of modules begin at, with the slash.
    pub root: String,
    pub files: Vec<&'a Source>,
}

/// All Rust, Go, TOML and Markdown of the workspace.
pub struct Tree(Vec<Source>);

impl Tree {
    /// Reads what is there, but for what cargo has built.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut paths = Vec::new();
        collect(root, &mut paths);
        paths.sort();
        let source = |path: PathBuf| Source {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"),
        };
        Self(paths.into_iter().map(source).collect())
    }

    pub fn file(&self, path: &str) -> &Source {
        self.0.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// All Rust: libraries, tools, benches, examples, tests and fuzz targets.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.with_ending(".rs")
    }

    /// The Rust in the `src` of each library.
    pub fn library(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter(|file| is_library(&file.path))
    }

    pub fn markdown(&self) -> impl Iterator<Item = &Source> {
        self.with_ending(".md")
    }

    pub fn with_ending(&self, ending: &str) -> impl Iterator<Item = &Source> {
        self.0.iter().filter(move |file| file.path.ends_with(ending))
    }

    /// All Rust that has modules, crate by crate.
    pub fn crates(&self) -> Vec<Crate<'_>> {
        let rust: Vec<&Source> = self.rust().collect();
        crates_of(&rust)
    }
}

fn crates_of<'a>(files: &[&'a Source]) -> Vec<Crate<'a>> {
    let folder = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let is_root = |path: &str| ["/lib.rs", "/main.rs", "/support/mod.rs"].iter().any(|end| path.ends_with(end));
    let mut roots: Vec<String> = files.iter().filter(|file| is_root(&file.path)).map(|f| folder(&f.path)).collect();
    // The innermost comes first: a file belongs to the first that it is in.
    roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
    let home = |file: &Source| roots.iter().position(|root| file.path.starts_with(root.as_str()));
    let crate_of = |(at, root): (usize, &String)| Crate {
        root: root.strip_suffix("support/").unwrap_or(root).to_owned(),
        files: files.iter().copied().filter(|file| home(file) == Some(at)).collect(),
    };
    roots.iter().enumerate().map(crate_of).collect()
}

fn is_library(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("crates") && parts.nth(1) == Some("src") && path.ends_with(".rs")
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            collect(&path, paths);
        } else if [".rs", ".md", ".toml", ".go"].iter().any(|ending| name.ends_with(ending)) {
            paths.push(path);
        }
    }
}

/// A sample for the tests of a rule.
#[cfg(test)]
pub fn sample(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn only_the_sources_of_crates_are_libraries() {
    let paths = ["crates/lru/src/lib.rs", "crates/lru/src/a/b.rs", "crates/lru/tests/a.rs", "xtask/src/main.rs"];
    assert_eq!(paths.map(is_library), [true, true, false, false]);
}

#[test]
fn a_file_belongs_to_the_innermost_crate() {
    let paths = ["benches/a/main.rs", "benches/a/b.rs", "benches/a/c/src/lib.rs", "benches/d.rs"];
    let support = ["benches/support/mod.rs", "benches/support/e.rs"];
    let files: Vec<Source> = paths.iter().chain(&support).map(|path| sample(path, "")).collect();
    let files: Vec<&Source> = files.iter().collect();
    let mut crates: Vec<String> = Vec::new();
    for Crate { root, files } in crates_of(&files) {
        let paths: Vec<&str> = files.iter().map(|file| &file.path[root.len()..]).collect();
        crates.push(format!("{root}: {}", paths.join(" ")));
    }
    crates.sort();
    assert_eq!(
        crates,
        ["benches/: support/mod.rs support/e.rs", "benches/a/: main.rs b.rs", "benches/a/c/src/: lib.rs"]
    );
}

#[test]
fn tests_and_fuzz_targets_are_rust() {
    let tree = Tree::read();
    let has = |path: &str| tree.rust().any(|file| file.path == path);
    assert!(has("crates/groupcache/tests/sim/main.rs") && has("crates/transport-http/fuzz/fuzz_targets/frames.rs"));
}

#[test]
fn this_file_is_in_the_tree_and_what_is_built_is_not() {
    let tree = Tree::read();
    assert!(tree.rust().any(|file| file.path == "xtask/tests/tidy/tree.rs"));
    assert!(tree.0.iter().all(|file| !file.path.contains("target/")));
}
