//! The first line of a file says what the file is for.

use super::Fault;
use super::tree::Source;

pub fn faults(source: &Source) -> Option<Fault> {
    let first = source.text.lines().next().unwrap_or_default();
    let is_lib = source.path.ends_with("/lib.rs");
    let good = first.strip_prefix("//! ").is_some_and(|words| !words.trim().is_empty())
        || first.starts_with("#![doc = include_str!(")
        || is_lib && first.starts_with("#![");
    (!good).then(|| Fault::new(source, 1, "begin the file with a `//!` line that says what it is for"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn is_fault(path: &str, text: &str) -> bool {
        faults(&sample(path, text)).is_some()
    }

    #[test]
    fn a_file_that_begins_with_code_is_a_fault() {
        assert!(is_fault("a.rs", "use std::fmt;\n//! Too late.\n"));
        assert!(is_fault("a.rs", "//!\n//! The first line is empty.\n"));
        assert!(is_fault("a.rs", ""));
        assert!(is_fault("src/a.rs", "#![allow(unused)]\n"));
    }

    #[test]
    fn a_line_about_the_file_is_none() {
        assert!(!is_fault("a.rs", "//! Keys.\n\nuse std::fmt;\n"));
        assert!(!is_fault("src/lib.rs", "#![doc = include_str!(\"../README.md\")]\n"));
        assert!(!is_fault("src/lib.rs", "#![cfg_attr(docsrs, feature(doc_cfg))]\n"));
    }
}
