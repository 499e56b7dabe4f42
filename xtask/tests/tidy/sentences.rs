//! Sentences of comments are short enough to be read once.

use super::Fault;
use super::tree::Source;

const MAX_WORDS: usize = 40;

/// Comments sentence by sentence. Code, tables and items of a list are no part of the sentence
/// before them.
pub fn faults_of_rust(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut sentence = Sentence::default();
    let mut in_code = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        let comment = line.trim_start().strip_prefix("//").map(|text| text.trim_start_matches(['/', '!']).trim());
        let fence = comment.is_some_and(|text| text.starts_with("```"));
        in_code = comment.is_some() && in_code ^ fence;
        let text = comment.filter(|text| !fence && !in_code && !text.starts_with('|')).unwrap_or_default();
        let begins = text.is_empty() || text.starts_with(['-', '*', '#']) || text.starts_with(char::is_numeric);
        if begins {
            faults.extend(sentence.end(source));
        }
        for word in text.split_whitespace() {
            sentence.line = if sentence.words == 0 { number } else { sentence.line };
            sentence.words += 1;
            if word.trim_end_matches([')', '"', '*', '`']).ends_with(['.', '!', '?']) {
                faults.extend(sentence.end(source));
            }
        }
    }
    faults.extend(sentence.end(source));
    faults
}

/// The sentence that is being read.
#[derive(Default)]
struct Sentence {
    /// The line that it begins at.
    line: usize,
    words: usize,
}

impl Sentence {
    fn end(&mut self, source: &Source) -> Option<Fault> {
        let Sentence { line, words } = std::mem::take(self);
        (words > MAX_WORDS).then(|| Fault::new(source, line, format!("a sentence of {words} words, more than 40")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        faults_of_rust(&sample("a.rs", text)).iter().map(|fault| fault.line).collect()
    }

    /// A comment of this many words, seven on a line.
    fn comment(marker: &str, words: usize) -> String {
        let words = vec!["word"; words];
        words.chunks(7).map(|line| format!("{marker} {}\n", line.join(" "))).collect()
    }

    #[test]
    fn a_long_sentence_is_a_fault() {
        for marker in ["//", "///", "    //!"] {
            assert_eq!(lines(&format!("fn f() {{}}\n{}fn g() {{}}\n", comment(marker, 41))), [2]);
            assert_eq!(lines(&comment(marker, 40)), [0; 0]);
        }
    }

    #[test]
    fn what_ends_a_sentence_begins_another() {
        let half = comment("//", 30);
        for between in ["// Word.\n", "//\n", "fn f() {}\n", "// - An item\n", "// | a | table |\n", "// ```\n// ```\n"]
        {
            assert_eq!(lines(&format!("{half}{between}{half}")), [0; 0], "{between}");
        }
        assert_eq!(lines(&format!("{half}{half}")), [1]);
    }
}
