//! The first sentence of a doc comment begins with a verb or a noun, and stands alone.

use super::Fault;
use super::tree::Source;

/// Words that begin half a sentence.
const BEGINNINGS: [&str; 7] = ["What", "How", "Whoever", "So", "Of", "As", "Who"];

pub fn faults(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut marker_before = None;
    for (number, line) in (1..).zip(source.text.lines()) {
        let marker = ["///", "//!"].into_iter().find(|marker| line.trim_start().starts_with(marker));
        if let Some(marker) = marker.filter(|_| marker != marker_before) {
            let first = line.trim_start()[marker.len()..].split_whitespace().next().unwrap_or_default();
            let first = first.trim_end_matches([',', ':', '.']);
            if BEGINNINGS.contains(&first) {
                faults.push(Fault::new(source, number, format!("begin with a verb or a noun, not with `{first}`")));
            }
        }
        marker_before = marker;
    }
    faults
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
    fn other_sentences_and_other_words_are_none() {
        assert_eq!(lines("/// Asks.\n/// What is more, it waits.\n/// Whole keys.\n// What is no doc.\n"), [0; 0]);
    }
}
