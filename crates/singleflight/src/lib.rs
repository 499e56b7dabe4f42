//! One call per key at a time; everyone who asks meanwhile shares its result.
