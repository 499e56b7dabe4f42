//! What we ask of cargo: what the workspace holds, and programs to run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::build::{cargo_program, run_build};
use crate::process::tether;

/// What `cargo metadata` says of this workspace.
pub struct Workspace {
    pub root: PathBuf,
    /// Where cargo builds. It honours `CARGO_TARGET_DIR` and the configuration.
    pub target: PathBuf,
    pub packages: Vec<Package>,
}

/// A member of the workspace.
pub struct Package {
    pub name: String,
    pub dir: PathBuf,
    pub features: Vec<String>,
    pub targets: Vec<Target>,
}

/// Something that a package builds.
pub struct Target {
    pub name: String,
    /// `lib`, `bin`, `example`, `test`, `bench` ...
    pub kind: String,
}

impl Workspace {
    /// The workspace of the working directory.
    pub fn read() -> Result<Self> {
        let output = Command::new(cargo_program())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo")?;
        ensure!(output.status.success(), "`cargo metadata` failed; is this directory inside the workspace?");
        let metadata = serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
        Self::from_json(&metadata)
    }

    fn from_json(metadata: &Value) -> Result<Self> {
        Ok(Self {
            root: text(metadata, "workspace_root")?.into(),
            target: text(metadata, "target_directory")?.into(),
            packages: list(metadata, "packages")?.iter().map(Package::from_json).collect::<Result<_>>()?,
        })
    }

    /// A path as people like to read it: from the root of the workspace, if it is below.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// Builds programs of the workspace with optimisations, showing cargo's own progress. Returns their paths.
    ///
    /// It names no package, as `cargo build --release --bin role` at the root does, so that one reuses what the other
    /// has built.
    pub fn build_programs<const N: usize>(&self, names: [&str; N]) -> Result<[PathBuf; N]> {
        let mut command = tether::command(cargo_program())?;
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

    /// Builds a bench target as `cargo bench -p` does, whose other builds it reuses. Returns its path.
    pub fn build_bench(&self, package: &str, name: &str) -> Result<PathBuf> {
        let mut command = tether::command(cargo_program())?;
        command.current_dir(&self.root).args(["bench", "--no-run", "--message-format=json-render-diagnostics"]);
        command.args(["-p", package, "--bench", name]);
        let built = run_build(&mut command)?.remove(name);
        built.with_context(|| format!("cargo built no bench named {name}"))
    }
}

impl Package {
    fn from_json(package: &Value) -> Result<Self> {
        let manifest = Path::new(text(package, "manifest_path")?);
        let features = package["features"].as_object().context("a package of `cargo metadata` has no features")?;
        Ok(Self {
            name: text(package, "name")?.to_string(),
            dir: manifest.parent().context("a manifest is in a directory")?.to_path_buf(),
            features: features.keys().cloned().collect(),
            targets: list(package, "targets")?.iter().map(Target::from_json).collect::<Result<_>>()?,
        })
    }

    /// The names of the targets of one kind.
    pub fn targets_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.targets.iter().filter(move |target| target.kind == kind).map(|target| target.name.as_str())
    }
}

impl Target {
    fn from_json(target: &Value) -> Result<Self> {
        let kinds = list(target, "kind")?;
        let kind = kinds.first().and_then(Value::as_str).context("a target of `cargo metadata` has no kind")?;
        Ok(Self { name: text(target, "name")?.to_string(), kind: kind.to_string() })
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("`cargo metadata` has no {field}"))
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    value[field].as_array().with_context(|| format!("`cargo metadata` has no {field}"))
}
