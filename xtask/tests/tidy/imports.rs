//! Files of a crate import each other one way, and each name from where it is defined.
//!
//! A name is followed through the `use` of the modules on its way, so that a re-export hides no
//! circle. What is compiled for tests alone is left out, and so is `lib.rs`, which knows
//! everything.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};

use super::Fault;
use super::lengths::{attributes, is_for_tests, is_tests};
use super::tree::{Crate, Source};

/// Builders, each with a file of what it builds: these two may know each other. A builder makes its
/// product, which offers it: `Cache::builder`.
const BUILDERS: &[(&str, &str)] = &[
    ("crates/lru/src/builder.rs", "crates/lru/src/cache.rs"),
    ("crates/lru/src/builder.rs", "crates/lru/src/sharded.rs"),
    ("crates/peercache/src/builder.rs", "crates/peercache/src/node.rs"),
];

/// Most re-exports that a name is followed through.
const DEPTH: usize = 8;

type Path = Vec<String>;

/// A file's module, and what it imports.
struct Module<'a> {
    source: &'a Source,
    path: Path,
    /// The paths that it names, and the lines where.
    imports: Vec<(Path, usize)>,
    /// Names it has from other modules: the last part of each `use`, and the path behind it.
    names: BTreeMap<String, Path>,
    /// Paths of which it imports all names, and the lines where.
    globs: Vec<(Path, usize)>,
}

/// The modules of a crate.
struct Modules<'a>(Vec<Module<'a>>);

/// Circles of files. A module and its own submodules may know each other, as may the [`BUILDERS`]
/// and what they build.
pub fn circles(of: &Crate<'_>) -> Vec<Fault> {
    let modules = Modules::read(of);
    let mut graph: DiGraphMap<usize, ()> = DiGraphMap::new();
    for (from, to) in modules.arrows() {
        if !modules.is_product_of(from, to, BUILDERS) {
            graph.add_edge(from, to, ());
        }
    }
    let mut downwards = graph.clone();
    graph.all_edges().filter(|&(from, to, ())| modules.is_below(from, to)).for_each(|(from, to, ())| {
        downwards.remove_edge(from, to);
    });
    let is_family = |circle: &[usize]| {
        circle.iter().any(|top| circle.iter().all(|other| top == other || modules.is_below(*other, *top)))
    };
    let in_families = tarjan_scc(&downwards).into_iter().filter(|circle| circle.len() > 1);
    let across = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1 && !is_family(circle));
    let circles: BTreeSet<Vec<usize>> = in_families
        .chain(across)
        .map(|mut circle| {
            circle.sort_unstable();
            circle
        })
        .collect();
    circles.iter().map(|circle| modules.fault_of(circle)).collect()
}

/// Names that are imported from `lib.rs` or `main.rs`, which only has them from elsewhere; and
/// imports of all that a module has, behind which such names hide.
pub fn through_lib(of: &Crate<'_>) -> Vec<Fault> {
    let modules = Modules::read(of);
    let mut faults = Vec::new();
    for module in &modules.0 {
        for (path, line) in &module.globs {
            if modules.absolute(module, path).is_some_and(|path| modules.deepest(&path).1 == path) {
                faults.push(Fault::new(module.source, *line, "import each name by itself, not `*`"));
            }
        }
    }
    let Some(lib) = modules.0.iter().find(|module| module.path.is_empty()) else { return faults };
    for module in modules.0.iter().filter(|module| !module.path.is_empty()) {
        for (path, line) in &module.imports {
            let Some(path) = modules.absolute(module, path) else { continue };
            if modules.deepest(&path).1.is_empty() && path.first().is_some_and(|name| lib.names.contains_key(name)) {
                let root = lib.source.path.rsplit('/').next().unwrap_or_default();
                let why = format!("import `{}` from the module that defines it, not from {root}", path[0]);
                faults.push(Fault::new(module.source, *line, why));
            }
        }
    }
    faults.dedup();
    faults
}

impl<'a> Modules<'a> {
    fn read(of: &Crate<'a>) -> Self {
        let inside = |file: &&'a Source| file.path[of.root.len()..].to_owned();
        let files = of.files.iter().copied().map(|file| (file, inside(&file)));
        let files = files.filter(|(_, path)| !is_tests(&format!("/{path}")));
        Self(files.map(|(file, path)| Module::read(file, &path)).collect())
    }

    /// Pairs of a file and one that it imports, `lib.rs` left out.
    fn arrows(&self) -> BTreeSet<(usize, usize)> {
        let mut arrows = BTreeSet::new();
        for (from, module) in self.0.iter().enumerate().filter(|(_, module)| !module.path.is_empty()) {
            let targets = module.imports.iter().filter_map(|(path, _)| self.resolve(module, path, DEPTH));
            arrows.extend(targets.filter(|&to| to != from && !self.0[to].path.is_empty()).map(|to| (from, to)));
        }
        arrows
    }

    /// The file that defines what a module means by a path; `None` for what is no part of the
    /// crate.
    fn resolve(&self, module: &Module<'_>, path: &[String], depth: usize) -> Option<usize> {
        let path = self.absolute(module, path)?;
        let (file, parent) = self.deepest(&path);
        let file = file?;
        let behind = path.get(parent.len()).and_then(|name| self.0[file].names.get(name));
        let behind = behind.filter(|_| depth > 0).and_then(|path| self.resolve(&self.0[file], path, depth - 1));
        Some(behind.unwrap_or(file))
    }

    /// A path from the root of the crate, without `crate`, `self` and `super`.
    fn absolute(&self, module: &Module<'_>, path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let mut base = module.path.clone();
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => {}
            "super" => {
                base.pop()?;
                let more = rest.iter().take_while(|name| *name == "super").count();
                base.truncate(base.len().checked_sub(more)?);
                return Some([&base[..], &rest[more..]].concat());
            }
            _ => {
                base.push(first.clone());
                return self.at(&base).map(|_| [&base[..], rest].concat());
            }
        }
        Some([&base[..], rest].concat())
    }

    fn at(&self, path: &[String]) -> Option<usize> {
        self.0.iter().position(|module| module.path == path)
    }

    /// The deepest module on a path, and the path to it.
    fn deepest<'p>(&self, path: &'p [String]) -> (Option<usize>, &'p [String]) {
        let lengths = (0..=path.len()).rev();
        let found = lengths.map(|length| &path[..length]).find_map(|path| Some((self.at(path)?, path)));
        found.map_or((None, &[]), |(file, path)| (Some(file), path))
    }

    /// Whether the first is a submodule of the second.
    fn is_below(&self, file: usize, other: usize) -> bool {
        let (path, above) = (&self.0[file].path, &self.0[other].path);
        path.len() > above.len() && path.starts_with(above)
    }

    /// Whether the first is what the second, a builder, builds.
    fn is_product_of(&self, product: usize, builder: usize, builders: &[(&str, &str)]) -> bool {
        let path = |file: usize| self.0[file].source.path.as_str();
        builders.contains(&(path(builder), path(product)))
    }

    fn fault_of(&self, circle: &[usize]) -> Fault {
        let name = |file: usize| self.0[file].path.join("/");
        let arrows = self.arrows().into_iter().filter(|(from, to)| circle.contains(from) && circle.contains(to));
        let arrows: Vec<String> = arrows.map(|(from, to)| format!("{} -> {}", name(from), name(to))).collect();
        let why = format!("{} files in a circle: {}", circle.len(), arrows.join(", "));
        Fault::new(self.0[circle[0]].source, 0, why)
    }
}

impl<'a> Module<'a> {
    fn read(source: &'a Source, in_crate: &str) -> Self {
        let mut path: Path = in_crate.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if matches!(path.last().map(String::as_str), Some("mod")) || ["lib.rs", "main.rs"].contains(&in_crate) {
            path.pop();
        }
        let mut file = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
        file.items.retain(|item| !is_for_tests(attributes(item)));
        let mut uses = Uses::default();
        uses.visit_file(&file);
        let names = uses.paths.iter().filter_map(|(path, name, _)| Some((name.clone()?, path.clone()))).collect();
        let mut imports: Vec<(Path, usize)> = uses.paths.into_iter().map(|(path, _, line)| (path, line)).collect();
        named_in(file.to_token_stream(), &mut imports);
        Self { source, path, imports, names, globs: uses.globs }
    }
}

/// Every path that a `use` brings in.
#[derive(Default)]
struct Uses {
    /// Each path with the name that it then has, and the line.
    paths: Vec<(Path, Option<String>, usize)>,
    /// Those of which it brings in all names.
    globs: Vec<(Path, usize)>,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, node: &'ast syn::ItemUse) {
        self.add(&mut Vec::new(), &node.tree);
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !is_for_tests(&node.attrs) {
            visit::visit_item_mod(self, node);
        }
    }
}

impl Uses {
    fn add(&mut self, before: &mut Path, tree: &syn::UseTree) {
        let path = |ident: &syn::Ident| {
            let own = (ident != "self" || before.is_empty()).then(|| ident.to_string());
            before.iter().cloned().chain(own).collect::<Path>()
        };
        match tree {
            syn::UseTree::Path(tree) => {
                before.push(tree.ident.to_string());
                self.add(before, &tree.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(before, tree)),
            syn::UseTree::Name(name) => {
                let path = path(&name.ident);
                self.paths.push((path.clone(), path.last().cloned(), name.ident.span().start().line));
            }
            syn::UseTree::Rename(name) => {
                self.paths.push((path(&name.ident), Some(name.rename.to_string()), name.ident.span().start().line));
            }
            syn::UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.paths.push((before.clone(), None, line));
                self.globs.push((before.clone(), line));
            }
        }
    }
}

/// Adds the paths that code names without a `use`, such as `crate::key::Key`.
fn named_in(tokens: TokenStream, paths: &mut Vec<(Path, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    let mut next = 0;
    while let Some(token) = tokens.get(next) {
        next += 1;
        match token {
            TokenTree::Group(group) => named_in(group.stream(), paths),
            TokenTree::Ident(ident) if ident == "use" => {
                let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ';');
                next += tokens[next..].iter().take_while(|token| !is_end(token)).count();
            }
            TokenTree::Ident(ident) => {
                let mut path = vec![ident.to_string()];
                while is_colon(tokens.get(next)) && is_colon(tokens.get(next + 1)) {
                    let Some(TokenTree::Ident(ident)) = tokens.get(next + 2) else { break };
                    path.push(ident.to_string());
                    next += 3;
                }
                if path.len() > 1 {
                    paths.push((path, ident.span().start().line));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample;
    use super::*;

    const ROOT: &str = "crates/a/src/";

    fn faults_in(of: &[(&str, &str)], rule: fn(&Crate<'_>) -> Vec<Fault>) -> Vec<Fault> {
        let files: Vec<Source> = of.iter().map(|(path, text)| sample(&format!("{ROOT}{path}"), text)).collect();
        rule(&Crate { root: ROOT.to_owned(), files: files.iter().collect() })
    }

    fn circles_in(of: &[(&str, &str)]) -> Vec<String> {
        faults_in(of, circles).into_iter().map(|fault| fault.why).collect()
    }

    fn through_lib_in(of: &[(&str, &str)]) -> Vec<String> {
        faults_in(of, through_lib).into_iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        let found = circles_in(&[("b.rs", "use crate::c::{C, D as E};"), ("c.rs", "fn f() { super::b::g() }")]);
        assert_eq!(found, ["2 files in a circle: b -> c, c -> b"]);
    }

    #[test]
    fn a_reexport_hides_no_circle() {
        let lib = ("lib.rs", "mod b; mod c; pub use b::B; pub use c::C;");
        let found = circles_in(&[("b.rs", "use crate::C;"), ("c.rs", "use crate::B;"), lib]);
        assert_eq!(found, ["2 files in a circle: b -> c, c -> b"]);
        let c = [("c.rs", "pub use d::D;"), ("c/d.rs", "use crate::b::B;"), ("b.rs", "use crate::c::D;")];
        assert_eq!(circles_in(&c), ["2 files in a circle: c/d -> b, b -> c/d"]);
    }

    #[test]
    fn one_way_is_no_circle() {
        assert!(
            circles_in(&[("b.rs", "use crate::c::C; use std::fmt;"), ("c.rs", "use crate::d;"), ("d.rs", "")])
                .is_empty()
        );
    }

    #[test]
    fn tests_may_know_everything() {
        let tests = "#[cfg(test)] mod tests { use crate::b::B; }";
        assert!(
            circles_in(&[("b.rs", "use crate::c::C;"), ("c.rs", tests), ("c/tests.rs", "use crate::b::B;")]).is_empty()
        );
    }

    #[test]
    fn a_module_and_its_submodules_may_know_each_other() {
        assert!(circles_in(&[("b.rs", "use self::c::C;"), ("b/c.rs", "use super::B;")]).is_empty());
    }

    #[test]
    fn submodules_among_themselves_may_not() {
        let found = circles_in(&[
            ("b/mod.rs", "use self::c::C;"),
            ("b/c.rs", "use super::{B, d::D};"),
            ("b/d.rs", "use super::c::C;"),
        ]);
        assert_eq!(found, ["2 files in a circle: b/c -> b/d, b/d -> b/c"]);
    }

    #[test]
    fn a_circle_through_another_module_is_one() {
        let found =
            circles_in(&[("b.rs", "use crate::d::D;"), ("b/c.rs", "use super::B;"), ("d.rs", "use crate::b::c::C;")]);
        assert_eq!(found, ["3 files in a circle: b -> d, b/c -> b, d -> b/c"]);
    }

    #[test]
    fn only_a_builder_in_the_list_and_its_product_may_know_each_other() {
        let texts = [("b.rs", "use crate::builder::B;"), ("builder.rs", "use crate::b::B;")];
        assert_eq!(circles_in(&texts), ["2 files in a circle: b -> builder, builder -> b"]);
        let files = texts.map(|(path, text)| sample(&format!("{ROOT}{path}"), text));
        let modules = Modules::read(&Crate { root: ROOT.to_owned(), files: files.iter().collect() });
        let listed = [("crates/a/src/builder.rs", "crates/a/src/b.rs")];
        assert!(modules.is_product_of(0, 1, &listed));
        assert!(!modules.is_product_of(1, 0, &listed));
    }

    #[test]
    fn the_root_of_a_program_is_left_out_as_well() {
        assert!(circles_in(&[("main.rs", "use b::B;"), ("b.rs", "use crate::Main;")]).is_empty());
        let found = through_lib_in(&[("main.rs", "use b::B;"), ("b.rs", ""), ("c.rs", "use crate::B;")]);
        assert_eq!(found, ["crates/a/src/c.rs:1: import `B` from the module that defines it, not from main.rs"]);
    }

    #[test]
    fn all_names_of_a_module_at_once_are_a_fault() {
        let found = through_lib_in(&[("lib.rs", "mod b;\npub use b::*;"), ("b.rs", "use std::fmt::*;")]);
        assert_eq!(found, ["crates/a/src/lib.rs:2: import each name by itself, not `*`"]);
    }

    #[test]
    fn a_name_that_lib_only_passes_on_is_a_fault() {
        let lib = ("lib.rs", "mod b; pub use b::B; pub const SELF: u8 = 0;");
        let found = through_lib_in(&[("c.rs", "use crate::SELF;\nuse crate::{B, b};\n"), lib]);
        assert_eq!(found, ["crates/a/src/c.rs:2: import `B` from the module that defines it, not from lib.rs"]);
        assert_eq!(through_lib_in(&[("c.rs", "fn f(_: super::B) {}"), lib]).len(), 1);
        assert!(through_lib_in(&[("c.rs", "use crate::b::B;"), lib]).is_empty());
    }
}
