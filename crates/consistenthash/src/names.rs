//! Reads and checks a list of names.

use std::collections::HashSet;

use crate::Error;

/// The most names that a [`Table`](crate::Table) or a [`Ring`](crate::Ring) takes.
///
/// A table of this many names still gives each of them 64 slots, and takes some seconds to build.
pub const MAX_NAMES: usize = 4096;

/// The names in the order given, or why they cannot be used. Reads at most one name too many.
pub(crate) fn collect<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Vec<String>, Error> {
    let names: Vec<String> = names.into_iter().take(MAX_NAMES + 1).map(|name| name.as_ref().to_owned()).collect();
    if names.len() > MAX_NAMES {
        return Err(Error::TooManyNames);
    }
    match first_duplicate(&names) {
        Some(name) => Err(Error::DuplicateName(name.to_owned())),
        None => Ok(names),
    }
}

fn first_duplicate(names: &[String]) -> Option<&str> {
    let mut seen = HashSet::with_capacity(names.len());
    names.iter().map(String::as_str).find(|name| !seen.insert(*name))
}
