//! Reads and checks a list of names.

use std::collections::HashSet;

use crate::{error::Error, limits::MAX_NAMES};

/// Collects the names in the order given, or says why they cannot be used.
///
/// It reads at most one name more than the limit.
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
