//! The files that rules are held over.

use std::fs;
use std::path::{Path, PathBuf};

/// A file, under its path from the root of the workspace.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// All Rust and Markdown of the workspace.
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

    /// The Rust of the libraries, tools, benches and examples.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        let others = |path: &str| ["xtask/", "benches/", "examples/"].iter().any(|dir| path.starts_with(dir));
        self.0.iter().filter(move |file| is_library(&file.path) || file.path.ends_with(".rs") && others(&file.path))
    }

    /// The Rust in the `src` of each library.
    pub fn library(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter(|file| is_library(&file.path))
    }

    pub fn markdown(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter(|file| file.path.ends_with(".md"))
    }

    /// The files of [`library`](Self::library), crate by crate.
    pub fn crates(&self) -> Vec<Vec<&Source>> {
        let files: Vec<&Source> = self.library().collect();
        let name = |file: &Source| file.path.split('/').nth(1).map(str::to_owned);
        files.chunk_by(|one, other| name(one) == name(other)).map(<[_]>::to_vec).collect()
    }
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
        } else if name.ends_with(".rs") || name.ends_with(".md") {
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
fn this_file_is_in_the_tree_and_what_is_built_is_not() {
    let tree = Tree::read();
    assert!(tree.rust().any(|file| file.path == "xtask/tests/tidy/tree.rs"));
    assert!(tree.0.iter().all(|file| !file.path.contains("target/")));
}
