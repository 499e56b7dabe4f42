use peercache_groupcache::BoxError;

/// A pool or a server that cannot be built as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base path is not one that a request line carries as it stands.
    #[error(
        "base_path must begin and end with `/`, have letters, digits and `-._~/` between, no empty, `.` or `..` segment and not be below /_peercache/; {0:?} is not such a path"
    )]
    BasePath(String),
    /// A setting is outside its range.
    #[error("{name} must be {expected}")]
    Setting {
        /// The setter's name.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] BoxError),
}
