//! A service's own processes as one distributed, self-filling cache.
