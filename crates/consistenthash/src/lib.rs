//! Which of several names owns a key: a balanced table on xxh3, and the ring of golang/groupcache.
