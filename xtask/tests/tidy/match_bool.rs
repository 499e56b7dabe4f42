//! A choice between two is an `if`, not a `match` on `true` and `false`.

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Fault;
use super::tree::Source;

pub fn faults(source: &Source) -> Vec<Fault> {
    let mut found = Found(Vec::new());
    found.visit_file(&syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path)));
    let fault = |line| Fault::new(source, line, "write `if`, not a `match` on a bool");
    found.0.into_iter().map(fault).collect()
}

/// The lines of such matches.
struct Found(Vec<usize>);

impl<'ast> Visit<'ast> for Found {
    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        let patterns: Vec<String> = node.arms.iter().map(|arm| arm.pat.to_token_stream().to_string()).collect();
        // A guard is a part of the pattern.
        let is_bool = |pattern: &String| ["true", "false"].contains(&pattern.split(" if ").next().unwrap_or_default());
        if patterns.iter().any(is_bool) && patterns.iter().all(|pattern| is_bool(pattern) || pattern == "_") {
            self.0.push(node.span().start().line);
        }
        visit::visit_expr_match(self, node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    fn lines(body: &str) -> Vec<usize> {
        let source = sample("a.rs", &format!("fn f() {{\n{body}\n}}\n"));
        faults(&source).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn a_match_on_a_bool_is_a_fault() {
        assert_eq!(lines("match a.b() {\n    true => 1,\n    false => 2,\n}"), [2]);
        assert_eq!(lines("g(|| match a { false => 1, _ => 2 })"), [2]);
        assert_eq!(lines("match a { false if b => 1, false => 3, true => 2 }"), [2]);
    }

    #[test]
    fn other_matches_are_none() {
        assert_eq!(
            lines("match a { Some(true) => 1, _ => 2 }\nmatch (a, b) { (true, _) => 1, (false, _) => 2 }"),
            [0; 0]
        );
    }
}
