//! The values of flags: how each is written, and the sentence for one that is wrong.

use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::Dialect;

pub(super) fn address(text: &str) -> Result<String, String> {
    let well_formed = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if well_formed { Ok(text.to_owned()) } else { Err("write HOST:PORT, such as 127.0.0.1:9000".to_owned()) }
}

/// Checks a member's name. It is kept letter for letter, since names are compared byte for byte.
pub fn member(text: &str) -> Result<String, String> {
    let name = text.trim();
    let is_known = |scheme: &str| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    match name.split_once("://") {
        Some((scheme, rest)) if is_known(scheme) && !rest.is_empty() => Ok(name.to_owned()),
        None if !name.is_empty() => Err(format!("write it with its scheme, http://{name}")),
        _ => Err("write a member as http://HOST:PORT, several with a comma between them".to_owned()),
    }
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (digits, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    let bytes = digits.trim_end().parse().ok().and_then(|count: usize| count.checked_mul(unit));
    bytes.ok_or_else(|| "write a number of bytes, or one with KiB, MiB or GiB behind it, such as 64MiB".to_owned())
}

pub(super) fn millis<const MIN: u64>(text: &str) -> Result<Duration, String> {
    /// Some 49 days: beyond any useful wait, and far from the end of every clock.
    const MAX: u64 = u32::MAX as u64;
    match text.parse() {
        Ok(ms @ ..=MAX) if ms >= MIN => Ok(Duration::from_millis(ms)),
        _ => Err(format!("write milliseconds, {MIN} to {MAX}, without a unit")),
    }
}

pub(super) fn dialect(text: &str) -> Result<Dialect, String> {
    match text {
        "native" => Ok(Dialect::Native),
        "golang" => Ok(Dialect::Golang),
        _ => Err("write native (peers are role, too) or golang (peers run golang/groupcache)".to_owned()),
    }
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false in the variable; the flag takes no value".to_owned())
}

pub(super) fn log_filter(text: &str) -> Result<Targets, String> {
    // A lone word that is no level would be taken for a module, so that a misspelt level would turn
    // all others off.
    let well_formed = text.split(',').all(|part| part.contains('=') || part.parse::<LevelFilter>().is_ok());
    let filter = text.parse().ok().filter(|_| well_formed);
    filter
        .ok_or_else(|| "write off, error, warn, info, debug or trace, also by module: info,peercache=debug".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_two() {
        let sizes = ["0", "123", "1KiB", "64MiB", "1 GiB"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [0, 123, 1 << 10, 64 << 20, 1 << 30]);
    }

    #[test]
    fn sizes_that_mean_nothing_are_refused() {
        for text in ["", "MiB", "1MB", "-1", "1.5GiB", "99999999999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
