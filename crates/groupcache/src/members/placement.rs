//! Placement of keys on members: the native table, golang's ring, or one of the user's own.

use peercache_consistenthash::{Ring as HashRing, Table};

/// Decides which member owns a key. Give your own to
/// [`MembersBuilder::placement`](crate::members::MembersBuilder::placement) to place keys your own
/// way; all members must place them alike.
pub trait Placement: Send + Sync + 'static {
    /// A ring of these members: at least one, in the order of the list, none twice.
    fn ring(&self, names: &[String]) -> Box<dyn Ring>;
}

/// The owner of each key, among a fixed list of members.
pub trait Ring: Send + Sync + 'static {
    /// The key's owner, as a position in the list that the ring was made from.
    fn owner(&self, key: &[u8]) -> usize;

    /// The fingerprint of the ring: equal at two members that place all keys alike, and else only
    /// by chance.
    fn digest(&self) -> u64;
}

/// The balanced table of [`peercache_consistenthash::Table`]: equal shares, and few moves when the
/// list changes. The order of the list does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativePlacement;

/// The ring of golang/groupcache, [`peercache_consistenthash::Ring`], for a list that has Go peers
/// in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct GolangPlacement;

/// The native table. It has an order of its own, so its answers are translated into positions in
/// the list.
struct NativeRing {
    table: Table,
    positions: Vec<usize>,
    digest: u64,
}

/// The ring of golang/groupcache. Its digest is kept, for it takes a walk over all points.
struct GolangRing {
    ring: HashRing,
    digest: u64,
}

const CHECKED: &str = "the member list has at least one member, none twice and not too many";

impl Placement for NativePlacement {
    fn ring(&self, names: &[String]) -> Box<dyn Ring> {
        let table = Table::new(names).expect(CHECKED);
        let position = |name: &String| names.iter().position(|other| other == name).expect(CHECKED);
        let positions = table.names().iter().map(position).collect();
        let digest = table.digest();
        Box::new(NativeRing { table, positions, digest })
    }
}

impl Ring for NativeRing {
    fn owner(&self, key: &[u8]) -> usize {
        self.positions[self.table.owner_index(key).expect(CHECKED)]
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

impl Placement for GolangPlacement {
    fn ring(&self, names: &[String]) -> Box<dyn Ring> {
        let ring = HashRing::golang(names).expect(CHECKED);
        let digest = ring.digest();
        Box::new(GolangRing { ring, digest })
    }
}

impl Ring for GolangRing {
    fn owner(&self, key: &[u8]) -> usize {
        self.ring.owner_index(key).expect(CHECKED)
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn the_order_of_the_list_changes_positions_but_no_owner() {
        let (ab, ba) = (names(&["a", "b"]), names(&["b", "a"]));
        let (one, other) = (NativePlacement.ring(&ab), NativePlacement.ring(&ba));
        for key in 0..100_u8 {
            assert_eq!(ab[one.owner(&[key])], ba[other.owner(&[key])]);
        }
        assert_eq!(one.digest(), other.digest());
    }

    #[test]
    fn places_as_golang_does() {
        let list = names(&["http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003"]);
        assert_eq!(GolangPlacement.ring(&list).owner(b"user:42"), 2);
    }
}
