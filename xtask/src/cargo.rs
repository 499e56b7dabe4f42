//! Cargo: what the workspace holds, and programs to run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{MetadataCommand, Package, TargetKind};

use crate::process::build::{cargo_program, run_build};
use crate::process::supervisor;

/// The workspace, as `cargo metadata` describes it.
pub struct Workspace {
    pub root: PathBuf,
    /// Folder in which cargo builds. It honours `CARGO_TARGET_DIR` and the configuration.
    pub target: PathBuf,
    pub packages: Vec<Package>,
}

impl Workspace {
    /// Reads the workspace of the working directory.
    pub fn read() -> Result<Self> {
        let mut command = MetadataCommand::new();
        let metadata = command.cargo_path(cargo_program()).no_deps().exec();
        let metadata = metadata.context("`cargo metadata` failed; is this directory inside the workspace?")?;
        Ok(Self {
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
            packages: metadata.packages,
        })
    }

    /// A path as people like to read it: from the root of the workspace, if it is below.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// Builds programs of the workspace with optimisations, showing cargo's own progress. Returns
    /// their paths.
    ///
    /// It names no package, as `cargo build --release --bin role` at the root does, so that one
    /// reuses what the other has built.
    pub fn build_programs<const N: usize>(&self, names: [&str; N]) -> Result<[PathBuf; N]> {
        let mut command = supervisor::command(cargo_program())?;
        command.current_dir(&self.root).args(["build", "--release", "--message-format=json-render-diagnostics"]);
        command.args(names.iter().flat_map(|name| ["--bin", name]));
        let mut built = run_build(&mut command)?;
        let mut missing = None;
        let paths = names.map(|name| {
            built.remove(name).unwrap_or_else(|| {
                missing = Some(name);
                PathBuf::new()
            })
        });
        match missing {
            None => Ok(paths),
            Some(name) => bail!("cargo built no program named {name}"),
        }
    }

    /// Builds a bench target as `cargo bench -p` does, whose other builds it reuses. Returns its
    /// path.
    pub fn build_bench(&self, package: &str, name: &str) -> Result<PathBuf> {
        let mut command = supervisor::command(cargo_program())?;
        command.current_dir(&self.root).args(["bench", "--no-run", "--message-format=json-render-diagnostics"]);
        command.args(["-p", package, "--bench", name]);
        let built = run_build(&mut command)?.remove(name);
        built.with_context(|| format!("cargo built no bench named {name}"))
    }
}

/// The names of the targets of one kind.
pub fn targets_of(package: &Package, kind: TargetKind) -> impl Iterator<Item = &str> {
    package.targets.iter().filter(move |target| target.is_kind(kind.clone())).map(|target| target.name.as_str())
}
