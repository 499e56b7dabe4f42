//! The code map of ARCHITECTURE.md names every file of every library.

use super::Fault;
use super::lengths::is_tests;
use super::tree::Source;

pub fn faults<'a>(architecture: &Source, files: impl Iterator<Item = &'a Source>) -> Vec<Fault> {
    let Some(map) = section(&architecture.text, "Code map") else {
        return vec![Fault::new(architecture, 0, "there is no section `Code map`")];
    };
    let missing = files.filter(|file| !is_tests(&file.path) && !names(&file.path).iter().any(|name| is_in(map, name)));
    missing.map(|file| Fault::new(file, 0, "the code map of ARCHITECTURE.md does not name it")).collect()
}

/// The text under a heading, with what is under its own.
fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let headings = || text.match_indices("\n#").map(|(start, _)| start + 1);
    let heading = |start: usize| text[start..].lines().next().unwrap_or_default();
    let level = |start: usize| heading(start).chars().take_while(|letter| *letter == '#').count();
    let start = headings().find(|&start| heading(start).trim_start_matches('#').trim() == title)?;
    let end = headings().find(|&other| other > start && level(other) <= level(start));
    Some(&text[start..end.unwrap_or(text.len())])
}

/// Ways to name a file: its path in `src` without the ending, or its name.
fn names(path: &str) -> Vec<String> {
    let (_, in_src) = path.split_once("/src/").expect("a file of a library");
    let stem = in_src.trim_end_matches(".rs");
    let module = stem.strip_suffix("/mod").unwrap_or(stem);
    let name = in_src.rsplit('/').next().unwrap_or(in_src);
    let mut names = vec![format!("{module}.rs")];
    // A word by itself would be found in any sentence.
    names.push(if module.contains('/') { module.to_owned() } else { format!("`{module}`") });
    if name != "mod.rs" {
        names.push(name.to_owned());
    }
    names
}

/// Whether a name stands there whole, not as the end or the beginning of another.
fn is_in(map: &str, name: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    map.match_indices(name).any(|(start, _)| {
        let before = map[..start].chars().next_back().is_some_and(is_word);
        let after = map[start + name.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn missing(map: &str, paths: &[&str]) -> Vec<String> {
        let files: Vec<Source> = paths.iter().map(|path| sample(path, "")).collect();
        let text = format!("# Architecture\n\n## Code map\n\n{map}\n\n## Absent\n\n`absent.rs`\n");
        faults(&sample("ARCHITECTURE.md", &text), files.iter()).into_iter().map(|fault| fault.path).collect()
    }

    const HOT: &str = "crates/groupcache/src/hot.rs";
    const BUDGET: &str = "crates/groupcache/src/cache/budget.rs";
    const CACHE: &str = "crates/groupcache/src/cache/mod.rs";

    #[test]
    fn a_file_that_is_not_named_is_a_fault() {
        assert_eq!(missing("the hot cache, shot.rs, cache/budgets", &[HOT, BUDGET, CACHE]), [HOT, BUDGET, CACHE]);
        assert_eq!(missing("", &["crates/groupcache/src/absent.rs"]).len(), 1, "another section is no map");
    }

    #[test]
    fn a_name_or_a_path_will_do() {
        assert_eq!(missing("`hot`: copies\n### cache\n- cache/budget, `cache`", &[HOT, BUDGET, CACHE]), [""; 0]);
        assert_eq!(missing("hot.rs, budget.rs", &[HOT, BUDGET, "crates/groupcache/src/cache/tests.rs"]), [""; 0]);
    }

    #[test]
    fn a_map_that_is_not_there_is_a_fault() {
        assert_eq!(faults(&sample("ARCHITECTURE.md", "# Architecture\n"), [].into_iter()).len(), 1);
    }
}
