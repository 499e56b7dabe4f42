//! The engine of peercache: groups, loaders, members and peers. It knows nothing of HTTP.
