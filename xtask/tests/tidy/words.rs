//! Words of a language of our own, where the field has its own.

use super::Fault;
use super::tree::Source;

/// Words that ARCHITECTURE's glossary has others for.
const BANNED: [&str; 29] = [
    "pilot",
    "passenger",
    "boarding",
    "courier",
    "dispatcher",
    "seldom",
    "rehome",
    "flock",
    "restless",
    "departure",
    "landing",
    "whoever",
    "anew",
    "backlog",
    "debt",
    "owe",
    "owed",
    "greeting",
    "greet",
    "plainly",
    "myself",
    "blame",
    "desk",
    "tally",
    "rescued",
    "goaround",
    "noanswer",
    "underway",
    "findout",
];

/// Documents that speak of old names.
const EXEMPT: [&str; 2] = ["CHANGELOG.md", "docs/decisions.md"];
/// The rules, which have to name them.
const RULES: &str = "xtask/tests/tidy/";

/// A word that may stand in a file all the same.
struct Allowed {
    path: &'static str,
    word: &'static str,
    /// The reason, for those who read this.
    _why: &'static str,
}

const ALLOWED: &[Allowed] = &[
    Allowed { path: "crates/transport-http/src/server/listen.rs", word: "backlog", _why: "the argument of listen(2)" },
    Allowed { path: "benches/memory/fill.rs", word: "myself", _why: "a function of procfs" },
];

pub fn faults(source: &Source) -> Vec<Fault> {
    faults_but(source, ALLOWED)
}

fn faults_but(source: &Source, allowed: &[Allowed]) -> Vec<Fault> {
    if EXEMPT.contains(&source.path.as_str()) || source.path.starts_with(RULES) {
        return Vec::new();
    }
    let is_allowed = |word: &str| allowed.iter().any(|allowed| allowed.path == source.path && allowed.word == word);
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let names = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let banned = names.flat_map(banned_in).filter(|word| !is_allowed(word));
        faults.extend(banned.map(|word| Fault::new(source, number, format!("`{word}` is no word of the field"))));
    }
    faults
}

/// The banned words that a name is made of: parts in `snake_case` or `CamelCase`, or all of it.
fn banned_in(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() && was_lower {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase();
        if letter != '_' {
            words.last_mut().expect("there is one").extend(letter.to_lowercase());
        }
    }
    words.push(words.concat());
    words.dedup();
    let is_banned =
        |word: &String| BANNED.iter().any(|banned| word == banned || word.strip_suffix('s') == Some(banned));
    words.retain(is_banned);
    words
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        faults(&sample(path, text)).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn a_banned_word_is_a_fault_whatever_its_case() {
        assert_eq!(lines("README.md", "Fine.\nWhoever asks\nstruct Pilot; fn pilot() {}\n"), [2, 3, 3]);
    }

    #[test]
    fn a_part_of_a_word_is_none() {
        assert_eq!(lines("README.md", "renewed, copilot, no answer\n"), [0; 0]);
    }

    #[test]
    fn a_part_of_a_name_is_a_fault() {
        for name in ["next_departure", "departures", "make_anew", "NextPilot", "PLAINLY", "NoAnswer", "under_way"] {
            assert_eq!(lines("a.rs", name), [1], "{name}");
        }
    }

    #[test]
    fn documents_of_the_past_may_have_them() {
        assert_eq!(lines("CHANGELOG.md", "Pilot is now Leader."), [0; 0]);
    }

    #[test]
    fn a_word_is_allowed_in_one_file_alone() {
        let allowed = [Allowed { path: "README.md", word: "anew", _why: "a quotation" }];
        let lines =
            |path| faults_but(&sample(path, "anew\nflock\n"), &allowed).iter().map(|f| f.line).collect::<Vec<_>>();
        assert_eq!((lines("README.md"), lines("docs/wire.md")), (vec![2], vec![1, 2]));
    }
}
