//! `role-seed` makes the SQLite file that `role` reads: the three of the original demo, and
//! generated soldiers.
mod soldiers;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Parser;
use rusqlite::Connection;

/// Makes a file of soldiers and their roles, in place of an older one.
#[derive(Parser)]
#[command(name = "role-seed", version)]
struct Arguments {
    /// The file to make
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// The number of soldiers to generate, beside the three who are always there
    #[arg(long, value_name = "N", default_value_t = 5000)]
    soldiers: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let count = seed(&arguments).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    println!("{count} soldiers in {}", arguments.out.display());
    Ok(())
}

/// Fills a file beside the wanted one and renames it, so that nobody sees half of it.
fn seed(arguments: &Arguments) -> anyhow::Result<usize> {
    let unfinished = beside(&arguments.out, ".unfinished");
    remove(&unfinished)?;
    let count = fill(&unfinished, arguments.soldiers)?;
    // The log of an older file would be taken for a part of the new one.
    for suffix in ["-journal", "-wal", "-shm"] {
        remove(&beside(&arguments.out, suffix))?;
    }
    fs::rename(&unfinished, &arguments.out)?;
    Ok(count)
}

fn fill(path: &Path, soldiers: usize) -> anyhow::Result<usize> {
    let mut file = Connection::open(path)?;
    file.execute_batch("CREATE TABLE roles(name TEXT PRIMARY KEY, role TEXT NOT NULL)")?;
    let rows = file.transaction()?;
    let mut count = 0;
    {
        let mut insert = rows.prepare("INSERT INTO roles(name, role) VALUES (?1, ?2)")?;
        for name in soldiers::names(soldiers) {
            let role = soldiers::role_of(&name).context("a soldier without a role")?;
            count += insert.execute((&name, role))?;
        }
    }
    rows.commit()?;
    Ok(count)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
