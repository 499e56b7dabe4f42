//! Words of a language of our own, where the field has its own.

use super::Fault;
use super::tree::Source;

/// Words that ARCHITECTURE's glossary has others for.
const BANNED: [&str; 12] = [
    "pilot",
    "passenger",
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
];

/// Documents that speak of old names.
const EXEMPT: [&str; 2] = ["CHANGELOG.md", "docs/decisions.md"];

/// A word that may stand in a file all the same.
struct Allowed {
    path: &'static str,
    word: &'static str,
    /// The reason, for those who read this.
    _why: &'static str,
}

const ALLOWED: &[Allowed] = &[];

pub fn faults(source: &Source) -> Vec<Fault> {
    faults_but(source, ALLOWED)
}

fn faults_but(source: &Source, allowed: &[Allowed]) -> Vec<Fault> {
    if EXEMPT.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let is_allowed = |word: &str| allowed.iter().any(|allowed| allowed.path == source.path && allowed.word == word);
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_lowercase);
        let banned = words.filter(|word| BANNED.contains(&word.as_str()) && !is_allowed(word));
        faults.extend(banned.map(|word| Fault::new(source, number, format!("`{word}` is no word of the field"))));
    }
    faults
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
        assert_eq!(lines("README.md", "renewed, copilot, landing_page\n"), [0; 0]);
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
