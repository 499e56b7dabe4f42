//! The promises of the README to a newcomer.

const README: &str = include_str!("../../README.md");

#[test]
fn the_program_is_the_quickstart() {
    let program = include_str!("../quickstart.rs");
    assert!(README.contains(program.trim_end()), "the README's program is not examples/quickstart.rs");
    assert!(program.lines().count() <= 25, "the program has more than 25 lines");
}

#[test]
fn the_cluster_command_comes_soon() {
    let line = README.lines().position(|line| line.starts_with("cargo xtask cluster"));
    assert!(line.is_some_and(|line| line < 15), "the cluster command stands at {line:?}");
}
