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

    /// The first `n` members in the key's line: its owner, then the one who would own it if the
    /// owner were gone, and so on. None is there twice. All members must have the same line.
    ///
    /// The next in line stands in for an owner that is down. Defaults to an empty line: nobody
    /// stands in, and the keys of a member that is down are loaded by each who asks.
    fn line(&self, key: &[u8], n: usize) -> Vec<usize> {
        let _ = (key, n);
        Vec::new()
    }

    /// The part of all keys that each member owns, from 0 to 1, in the order of the list. Defaults
    /// to an empty list: it is not known.
    fn shares(&self) -> Vec<f64> {
        Vec::new()
    }
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

    fn line(&self, key: &[u8], n: usize) -> Vec<usize> {
        self.table.owner_indices(key, n).into_iter().map(|index| self.positions[index]).collect()
    }

    fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.positions.len()];
        self.positions.iter().zip(self.table.shares()).for_each(|(position, share)| shares[*position] = share);
        shares
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

    fn line(&self, key: &[u8], n: usize) -> Vec<usize> {
        self.ring.owner_indices(key, n)
    }

    /// The parts of 65,536 keys.
    fn shares(&self) -> Vec<f64> {
        const KEYS: u32 = 1 << 16;
        let mut owned = vec![0_u32; self.ring.names().len()];
        (0..KEYS).for_each(|key| owned[self.owner(&key.wrapping_mul(0x9e37_79b9).to_le_bytes())] += 1);
        owned.into_iter().map(|owned| f64::from(owned) / f64::from(KEYS)).collect()
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

    /// The next in line is who owns the key in the ring without its owner.
    #[test]
    fn the_line_goes_on_with_who_owns_the_key_without_those_before() {
        let list = names(&["http://a:1", "http://b:1", "http://c:1", "http://d:1"]);
        let placements: [&dyn Placement; 2] = [&NativePlacement, &GolangPlacement];
        for placement in placements {
            let ring = placement.ring(&list);
            for key in 0..200_u8 {
                let line = ring.line(&[key], 9);
                let mut sorted = line.clone();
                sorted.sort_unstable();
                assert_eq!((line[0], sorted), (ring.owner(&[key]), vec![0, 1, 2, 3]));
                assert_eq!(ring.line(&[key], 2), line[..2]);
                let rest: Vec<String> = list.iter().filter(|name| **name != list[line[0]]).cloned().collect();
                assert_eq!(rest[placement.ring(&rest).owner(&[key])], list[line[1]]);
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_owned_keys() {
        let list = names(&["http://b:1", "http://a:1", "http://c:1"]);
        let placements: [&dyn Placement; 2] = [&NativePlacement, &GolangPlacement];
        for placement in placements {
            let ring = placement.ring(&list);
            let mut owned = [0.0; 3];
            (0..100_000_u32).for_each(|key| owned[ring.owner(&key.to_be_bytes())] += 1e-5);
            let shares = ring.shares();
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(owned.iter().zip(shares).all(|(owned, share)| (owned - share).abs() < 0.02), "{owned:?}");
        }
    }

    #[test]
    fn places_as_golang_does() {
        let list = names(&["http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003"]);
        assert_eq!(GolangPlacement.ring(&list).owner(b"user:42"), 2);
    }
}
