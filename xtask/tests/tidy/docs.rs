//! The first sentence of a doc comment begins with a verb or a noun, and stands alone.

use super::Fault;
use super::tree::Source;

/// Words that begin half a sentence.
const BEGINNINGS: &[&str] = &[
    "What", "How", "Whoever", "Who", "So", "Of", "As", "Where", "When", "Which", "Why", "With", "For", "From", "By",
    "Before", "Ready", "About", "At", "In", "If", "That", "On", "Only", "Until", "To", "Beside", "After",
];

/// Participles that do not end in "ed". A noun that is spelled alike is told by the word after it.
const PARTICIPLES: &[&str] =
    &["Set", "Taken", "Held", "Kept", "Sent", "Told", "Made", "Given", "Known", "Found", "Built", "Read"];

/// Words after which a participle is no part of a noun: "Loaded by a peer", not "Loaded values".
const AFTER_PARTICIPLES: &[&str] = &[
    "and", "or", "but", "by", "from", "to", "into", "in", "on", "with", "without", "at", "for", "as", "when", "while",
    "if", "once", "so", "only", "through", "before", "after", "until", "per", "first", "last", "again", "twice",
    "here", "under", "over", "off", "out", "than", "because", "since", "where", "not", "no", "it",
];

pub fn faults(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut marker_before = None;
    for (number, line) in (1..).zip(source.text.lines()) {
        let marker = ["///", "//!"].into_iter().find(|marker| line.trim_start().starts_with(marker));
        if let Some(marker) = marker.filter(|_| marker != marker_before) {
            let mut words = line.trim_start()[marker.len()..].split_whitespace();
            let (first, second) = (words.next().unwrap_or_default(), words.next());
            if is_half(first, second) {
                faults.push(Fault::new(source, number, format!("begin with a verb or a noun, not with `{first}`")));
            }
        }
        marker_before = marker;
    }
    faults
}

/// Whether a sentence that begins with these words is half of one.
fn is_half(first: &str, second: Option<&str>) -> bool {
    let word = first.trim_end_matches([',', ':', '.', ';']);
    let is_participle = PARTICIPLES.contains(&word) || word.starts_with(char::is_uppercase) && word.ends_with("ed");
    let ends = word.len() < first.len();
    let stands_alone =
        || ends || second.is_none_or(|second| AFTER_PARTICIPLES.contains(&second.trim_end_matches(['.', ',', ';'])));
    BEGINNINGS.contains(&word) || is_participle && stands_alone()
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        faults(&sample("a.rs", text)).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn a_sentence_that_does_not_stand_alone_is_a_fault() {
        for beginning in BEGINNINGS {
            assert_eq!(lines(&format!("//! Keys.\n\n    /// {beginning} is asked.\n    fn f() {{}}\n")), [3]);
        }
        assert_eq!(lines("//! What is asked.\n"), [1]);
    }

    #[test]
    fn a_participle_without_its_noun_is_a_fault() {
        for sentence in ["Loaded by a peer.", "Sorted, without duplicates.", "Set once.", "Taken from it.", "Aligned"] {
            assert_eq!(lines(&format!("/// {sentence}\n")), [1], "{sentence}");
        }
    }

    #[test]
    fn a_participle_before_a_noun_is_none() {
        assert_eq!(lines("/// Expired entries.\n\n/// Set of keys.\n\n/// Speed that is seen.\n"), [0; 0]);
    }

    #[test]
    fn other_sentences_and_other_words_are_none() {
        assert_eq!(lines("/// Asks.\n/// What is more, it waits.\n/// Whole keys.\n// What is no doc.\n"), [0; 0]);
    }
}
