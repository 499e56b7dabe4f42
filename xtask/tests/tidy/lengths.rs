//! A file of a library that has outgrown one idea, its tests left out.

use syn::spanned::Spanned;

use super::Fault;
use super::tree::Source;

const MAX_LINES: usize = 500;

pub fn faults(source: &Source) -> Option<Fault> {
    if is_tests(&source.path) {
        return None;
    }
    let lines = source.text.lines().count() - lines_of_tests(&source.text);
    (lines > MAX_LINES).then(|| Fault::new(source, 0, format!("{lines} lines without tests, more than {MAX_LINES}")))
}

/// Whether a file is made of tests.
pub fn is_tests(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

fn lines_of_tests(text: &str) -> usize {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let tests = file.items.iter().filter(|item| is_for_tests(attributes(item)));
    tests.map(|item| item.span().end().line - item.span().start().line + 1).sum()
}

/// Whether something is compiled in tests alone.
pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_cfg_test = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test")
        }
        _ => false,
    };
    attributes.iter().any(is_cfg_test)
}

/// The attributes of an item that can be for tests alone.
pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn file(code: usize, tests: usize) -> String {
        let (code, tests) = ("fn f() {}\n".repeat(code), "    fn f() {}\n".repeat(tests - 3));
        format!("{code}#[cfg(test)]\nmod tests {{\n{tests}}}\n")
    }

    #[test]
    fn a_long_file_is_a_fault() {
        assert_eq!(faults(&sample("src/a.rs", &file(501, 9))).unwrap().why, "501 lines without tests, more than 500");
    }

    #[test]
    fn its_tests_do_not_count() {
        assert_eq!(faults(&sample("src/a.rs", &file(500, 900))), None);
        assert_eq!(faults(&sample("src/a/tests.rs", &file(900, 9))), None);
    }
}
