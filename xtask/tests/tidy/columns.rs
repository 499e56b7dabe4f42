//! Lines end where they can be read side by side: code at column 120, comments and prose at 100.

use unicode_width::UnicodeWidthStr;

use super::Fault;
use super::tree::Source;

const CODE: usize = 120;
const PROSE: usize = 100;

/// Comments of Go and TOML. The rest is for their formatters.
pub fn faults_of_comments(source: &Source) -> Vec<Fault> {
    let marker = if source.path.ends_with(".toml") { "#" } else { "//" };
    let comments = (1..).zip(source.text.lines()).filter(|(_, line)| line.trim_start().starts_with(marker));
    comments.filter_map(|(n, line)| fault(source, n, &without_addresses(line, true), PROSE, "comments end")).collect()
}

/// Code and comments, also those behind code. A table or an address in a comment cannot be broken,
/// and may be longer.
pub fn faults_of_rust(source: &Source) -> Vec<Fault> {
    let fault = |(number, line): (usize, &str)| {
        let comment = line.trim_start().strip_prefix("//").map(|text| text.trim_start_matches(['/', '!']));
        let (most, kind) = match comment {
            Some(text) if !is_table(text) => (PROSE, "comments end"),
            None if line.contains(" // ") => (PROSE, "comments end"),
            _ => (CODE, "code ends"),
        };
        fault(source, number, &without_addresses(line, comment.is_some()), most, kind)
    };
    (1..).zip(source.text.lines()).filter_map(fault).collect()
}

/// Prose. Tables, code and the targets of links may be longer.
pub fn faults_of_markdown(source: &Source) -> Vec<Fault> {
    let mut in_code = false;
    // Where an indented block of code may begin: not within a paragraph.
    let mut may_indent = true;
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        let indented = may_indent && line.starts_with("    ");
        may_indent = indented || line.trim().is_empty();
        if !fence && !in_code && !indented && !is_table(line) {
            faults.extend(fault(source, number, &without_addresses(line, true), PROSE, "prose ends"));
        }
    }
    faults
}

fn fault(source: &Source, number: usize, line: &str, most: usize, kind: &str) -> Option<Fault> {
    let width = line.width();
    (width > most).then(|| Fault::new(source, number, format!("{kind} at column {most}, this line at {width}")))
}

fn is_table(text: &str) -> bool {
    text.trim_start().starts_with('|')
}

/// A line without the targets of its links and without bare addresses, if it is prose.
fn without_addresses(line: &str, is_prose: bool) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(start) = rest.find("](").filter(|_| is_prose) {
        let end = rest[start..].find(')').map_or(rest.len(), |length| start + length);
        kept.push_str(&rest[..start + 2]);
        rest = &rest[end..];
    }
    kept.push_str(rest);
    if !is_prose || !kept.contains("://") {
        return kept;
    }
    let words = kept.split_inclusive(' ').filter(|word| !word.contains("://"));
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn lines_of_rust(text: &str) -> Vec<usize> {
        faults_of_rust(&sample("a.rs", text)).iter().map(|fault| fault.line).collect()
    }

    fn lines_of_markdown(text: &str) -> Vec<usize> {
        faults_of_markdown(&sample("a.md", text)).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn a_long_line_of_code_is_a_fault() {
        let code = |width: usize| format!("fn a() {{}}\n{}\n", "x".repeat(width));
        assert_eq!(lines_of_rust(&code(120)), [0; 0]);
        assert_eq!(lines_of_rust(&code(121)), [2]);
    }

    #[test]
    fn a_long_comment_is_a_fault() {
        for marker in ["// ", "/// ", "    //! "] {
            let comment = |width: usize| format!("{marker}{}", "x".repeat(width - marker.len()));
            assert_eq!(lines_of_rust(&comment(100)), [0; 0]);
            assert_eq!(lines_of_rust(&comment(101)), [1]);
        }
    }

    #[test]
    fn a_comment_behind_code_that_is_long_is_a_fault() {
        let code = |width: usize| format!("f(); // {}\n", "x".repeat(width - 8));
        assert_eq!((lines_of_rust(&code(100)), lines_of_rust(&code(101))), (vec![], vec![1]));
    }

    #[test]
    fn a_long_comment_of_go_or_toml_is_a_fault() {
        let lines = |path: &str, text: &str| faults_of_comments(&sample(path, text)).len();
        let long = "x".repeat(99);
        assert_eq!(lines("a.toml", &format!("# {long}\nname = \"{long}\"\n# {}\n", &long[1..])), 1);
        assert_eq!(lines("a.go", &format!("\t// {long}\nf(\"{long}\")\n// {}\n", &long[2..])), 1);
    }

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!(lines_of_markdown(&"名".repeat(50)), [0; 0]);
        assert_eq!(lines_of_markdown(&"名".repeat(51)), [1]);
    }

    #[test]
    fn what_cannot_be_broken_may_be_longer() {
        let (long, address) = ("x".repeat(110), format!("https://example.com/{}", "x".repeat(100)));
        assert_eq!(lines_of_rust(&format!("/// | {long} |\n// See {address}.")), [0; 0]);
        assert_eq!(lines_of_markdown(&format!("| {long} |\n```\n{long}\n```\n[a]({long})\nSee {address}.")), [0; 0]);
    }

    #[test]
    fn what_is_beside_a_link_or_behind_code_may_not() {
        let long = "x".repeat(101);
        assert_eq!(lines_of_markdown(&format!("[a](b) {long}\n```\n```\n{long}\n<https://a.b> {long}")), [1, 4, 5]);
    }

    #[test]
    fn a_block_of_code_may_be_indented_instead_of_fenced() {
        let long = "x".repeat(101);
        assert_eq!(lines_of_markdown(&format!("a\n\n    {long}\n    {long}\n\nb")), [0; 0]);
        assert_eq!(lines_of_markdown(&format!("a\n    {long}\n\n  {long}")), [2, 4]);
    }
}
