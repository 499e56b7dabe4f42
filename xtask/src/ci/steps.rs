//! The steps of CI, cheap ones first.

use std::collections::BTreeSet;
use std::env;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use cargo_metadata::{Package, TargetKind};

use super::context::{Context, GO, Needed, POSTGRES, VALGRIND, capture, capture_shown, is_installed, succeed};
use super::{Outcome, Step, killed};
use crate::cargo::targets_of;

/// Longest step that compiles much, on two slow cores.
const BUILD_LIMIT: Duration = Duration::from_secs(25 * 60);
/// Longest step that only looks.
const LOOK_LIMIT: Duration = Duration::from_secs(120);
/// Longest run of an example that is built.
const EXAMPLE_LIMIT: Duration = Duration::from_secs(60);
/// Longest tour, from cold: what we promise a newcomer.
const TOUR_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Packages that must not creep in: builds of C libraries that need more than a C compiler, and a
/// second TLS.
const UNWANTED: [&str; 5] = ["aws-lc-sys", "openssl-sys", "native-tls", "cmake", "bindgen"];
/// The leaf that must stay light, and how many packages it may be, itself included.
const LIGHT: (&str, usize) = ("peercache-consistenthash", 4);

/// The rivals that are compared with, a workspace of their own.
const RIVALS: &str = "benches/peers/Cargo.toml";

/// All steps, in the order they are taken.
pub fn all(context: &Context) -> Vec<Step> {
    let mut steps = vec![
        cargo("rustfmt", ["fmt", "--all", "--check"], LOOK_LIMIT),
        cargo("rustfmt of the rivals", ["fmt", "--manifest-path", RIVALS, "--check"], LOOK_LIMIT),
        // A new dependency of ours has to be in there, too; the comparison would say so last.
        cargo("lock file of the rivals", ["tree", "--depth", "0", "--locked", "--manifest-path", RIVALS], BUILD_LIMIT),
        step("no unwanted native build", no_unwanted_build),
        step("a leaf is light", leaf_is_light),
        cargo(
            "clippy",
            ["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"],
            BUILD_LIMIT,
        ),
    ];
    steps.extend(library_names(context).map(features));
    steps.push(step("rustdoc", rustdoc));
    steps.push(step("PostgreSQL for the tests", |context| present(context, POSTGRES)));
    steps.push(step("Go for the tests", |context| present(context, GO)));
    steps.push(step("tests and doc tests", tests));
    steps.extend(examples(context));
    steps.extend(packages_with_test(context, "loom").map(loom));
    steps.extend(benches(context));
    steps.push(step("instructions of a hit", instructions));
    steps.push(step("tour", |context| succeed(&mut context.xtask(["cluster", "--demo"])?, TOUR_LIMIT)));
    steps.push(step("tour with a saboteur", sabotage));
    steps.push(step("compare, briefly", compare));
    steps.push(step("xtask killed with -9 leaves no node", killed::leaves_no_node));
    steps.push(step("the working tree is as it was", tree_is_as_it_was));
    steps
}

fn step<T: Into<Outcome>>(name: impl Into<String>, take: impl Fn(&Context) -> T + 'static) -> Step {
    Step { name: name.into(), take: Box::new(move |context| take(context).into()) }
}

/// A step that is one cargo command.
fn cargo<const N: usize>(name: impl Into<String>, arguments: [&str; N], limit: Duration) -> Step {
    let arguments = arguments.map(String::from);
    step(name, move |context| succeed(&mut context.cargo(&arguments)?, limit))
}

/// The crates that people use: those in `crates/`.
fn library_names(context: &Context) -> impl Iterator<Item = String> {
    let crates = context.workspace.root.join("crates");
    context.workspace.packages.iter().filter(move |p| p.manifest_path.starts_with(&crates)).map(|p| p.name.to_string())
}

fn packages_with_test<'a>(context: &'a Context, test: &'a str) -> impl Iterator<Item = &'a Package> {
    context.workspace.packages.iter().filter(move |p| targets_of(p, TargetKind::Test).any(|name| name == test))
}

fn no_unwanted_build(context: &Context) -> Result<()> {
    let arguments = ["tree", "--workspace", "-e", "normal,build,dev", "--prefix", "none", "--locked"];
    let tree = capture(&mut context.cargo(arguments)?, LOOK_LIMIT)?;
    ensure!(tree.status.success(), "{}", tree.status);
    let found = unwanted(&tree.text);
    ensure!(found.is_empty(), "found {}", found.into_iter().collect::<Vec<_>>().join(", "));
    Ok(())
}

fn unwanted(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter(|line| UNWANTED.iter().any(|name| line.contains(name))).collect()
}

fn leaf_is_light(context: &Context) -> Result<()> {
    let (leaf, packages_max) = LIGHT;
    let arguments = ["tree", "-p", leaf, "-e", "normal", "--prefix", "none", "--locked"];
    let tree = capture(&mut context.cargo(arguments)?, LOOK_LIMIT)?;
    ensure!(tree.status.success(), "{}", tree.status);
    let packages: BTreeSet<&str> = tree.text.lines().collect();
    ensure!(packages.len() <= packages_max, "{leaf} is {} packages, more than {packages_max}", packages.len());
    Ok(())
}

/// One crate alone, without its features and with each of them: what `--workspace` hides by
/// unifying features.
fn features(package: String) -> Step {
    step(format!("{package} alone and with each feature"), move |context| {
        let found = context.workspace.packages.iter().find(|p| p.name == package).expect("the step's crate is there");
        for flags in feature_flags(found.features.keys()) {
            println!("cargo check -p {package} {}", flags.join(" "));
            let check = ["check", "-p", &package, "--locked", "--quiet"].map(String::from);
            let mut command = context.cargo(check.iter().chain(&flags))?;
            succeed(&mut command, BUILD_LIMIT).map_err(|error| error.context(flags.join(" ")))?;
        }
        Ok(())
    })
}

fn feature_flags<'a>(features: impl ExactSizeIterator<Item = &'a String>) -> Vec<Vec<String>> {
    let flags = |flags: &[&str]| flags.iter().map(|flag| flag.to_string()).collect();
    if features.len() == 0 {
        return vec![flags(&[])];
    }
    let each = features.filter(|feature| *feature != "default");
    let each = each.map(|feature| flags(&["--no-default-features", "--features", feature]));
    let ends = [flags(&["--no-default-features"]), flags(&[]), flags(&["--all-features"])];
    ends.into_iter().chain(each).collect()
}

fn rustdoc(context: &Context) -> Result<()> {
    let mut command = context.cargo(["doc", "--workspace", "--no-deps", "--all-features", "--locked"])?;
    succeed(command.env("RUSTDOCFLAGS", "-D warnings"), BUILD_LIMIT)
}

fn present(context: &Context, needed: Needed) -> Outcome {
    if is_installed(needed) {
        Outcome::Passed
    } else if context.in_ci {
        Outcome::Failed(needed.how.to_owned())
    } else {
        Outcome::Skipped(needed.how.to_owned())
    }
}

fn tests(context: &Context) -> Result<()> {
    let required = [POSTGRES, GO].into_iter().filter(|&needed| context.requires(needed));
    let required: Vec<&str> = required.map(|needed| needed.name).collect();
    let mut command = context.cargo(["test", "--workspace", "--no-fail-fast", "--locked"])?;
    succeed(command.env("PEERCACHE_REQUIRE", required.join(",")), BUILD_LIMIT)
}

/// Each example is run to its end. They are built first, so that the limit is one of running; and
/// no package is named, so that all is built as it was for the tests.
fn examples(context: &Context) -> Vec<Step> {
    let build = ["build", "--workspace", "--examples", "--locked"];
    let mut steps = vec![cargo("build the examples", build, BUILD_LIMIT)];
    let packages = context.workspace.packages.iter();
    let names = packages.flat_map(|package| targets_of(package, TargetKind::Example));
    steps.extend(names.map(|name| {
        let run = ["run", "--locked", "--quiet", "--example", name];
        cargo(format!("example {name}"), run, EXAMPLE_LIMIT)
    }));
    steps
}

/// Every bench is run once over.
fn benches(context: &Context) -> Vec<Step> {
    let mut steps = vec![];
    for package in &context.workspace.packages {
        let names = targets_of(package, TargetKind::Bench);
        steps.extend(names.map(|name| {
            let arguments = ["bench", "-p", &package.name, "--locked", "--bench", name, "--", "--test"];
            cargo(format!("bench {name}"), arguments, BUILD_LIMIT)
        }));
    }
    steps
}

/// A hit that takes more instructions than it did is a regression, however busy the machine.
fn instructions(context: &Context) -> Outcome {
    match present(context, VALGRIND) {
        Outcome::Passed => {
            let bench = context.xtask(["bench", "--instructions", "--strict"]);
            bench.and_then(|mut bench| succeed(&mut bench, BUILD_LIMIT)).into()
        }
        missing => missing,
    }
}

/// The model checks of a crate. Their own target directory: other compiler flags would rebuild
/// everything else.
fn loom(package: &Package) -> Step {
    let name = package.name.to_string();
    step(format!("loom checks of {name}"), move |context| {
        let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
        flags.push_str(" --cfg peercache_loom");
        let mut command = context.cargo(["test", "-p", &name, "--test", "loom", "--release", "--locked"])?;
        command.env("RUSTFLAGS", flags.trim()).env("CARGO_TARGET_DIR", context.workspace.target.join("loom"));
        succeed(&mut command, BUILD_LIMIT)
    })
}

/// Checks that the programs build and the figures arrive, not what they are. The two gRPC crates
/// take minutes to build and are left out; `cargo bench` builds one of them anyway.
fn compare(context: &Context) -> Result<()> {
    let systems = "ours,golang,groupcache-go,redis,memcached";
    let brief = ["--rounds", "1", "--seconds", "0.2", "--callers", "64", "--values", "1KB"];
    succeed(&mut context.xtask(["compare", "--systems", systems].into_iter().chain(brief))?, BUILD_LIMIT)
}

/// A tour that notices nothing would be worth nothing.
fn sabotage(context: &Context) -> Result<()> {
    let tour = capture_shown(&mut context.xtask(["cluster", "--demo", "--sabotage"])?, TOUR_LIMIT)?;
    if tour.status.success() {
        bail!("the tour did not notice a wrong peer list");
    }
    ensure!(names_failed_step(&tour.text), "the tour failed ({}) without naming a step", tour.status);
    Ok(())
}

fn names_failed_step(output: &str) -> bool {
    output.lines().any(|line| line.starts_with("step ") && line.ends_with(": FAILED"))
}

fn tree_is_as_it_was(context: &Context) -> Outcome {
    let (Some(before), Some(after)) = (&context.tree_before, context.tree_state()) else {
        return Outcome::Skipped("this is no git repository; in a clone it runs".to_owned());
    };
    if context.in_ci && !before.is_empty() {
        return Outcome::Failed(format!("the tree was not clean to begin with:\n{before}"));
    }
    if *before == after {
        return Outcome::Passed;
    }
    Outcome::Failed(format!("`git status` and `git diff` now say:\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_build_is_found_in_a_tree() {
        let tree = "peercache v0.1.0\naws-lc-sys v0.30.0\ncmake v0.1.0\nserde v1.0.0\n";
        assert_eq!(unwanted(tree), BTreeSet::from(["aws-lc-sys v0.30.0", "cmake v0.1.0"]));
    }

    #[test]
    fn each_feature_is_checked_alone() {
        let features = ["default", "client", "server"].map(String::from);
        let flags: Vec<String> = feature_flags(features.iter()).iter().map(|flags| flags.join(" ")).collect();
        let alone = |feature: &str| format!("--no-default-features --features {feature}");
        assert_eq!(flags, ["--no-default-features", "", "--all-features", &alone("client"), &alone("server")]);
    }

    #[test]
    fn a_crate_without_features_is_checked_once() {
        assert_eq!(feature_flags([].iter()), [Vec::<String>::new()]);
    }

    #[test]
    fn a_failed_step_is_recognised() {
        assert!(names_failed_step("hello\nstep 4: a — expected b, saw c: FAILED\n"));
    }

    #[test]
    fn a_failure_before_the_first_step_is_not_one_of_a_step() {
        assert!(!names_failed_step("step 1: a — expected b, saw b: ok\nerror: the build FAILED\n"));
    }
}
