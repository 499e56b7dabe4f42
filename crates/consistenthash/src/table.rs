//! The native placement: a table of slots, each owned by a name.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::assign::{assign, count, score};
use crate::{digest::Digester, error::Error, names};

/// The number of slots of a [`Table`]: 2^18, two bytes each.
///
/// 2^16 would take 128 KiB instead of 512, and a quarter of the time to build. But a change of one
/// name among 100 would move 1.12x of the least possible, up to 1.15x. With 2^18 it moves 1.04x, up
/// to 1.06x; the goal is 1.1x. A table of this size stays in a second-level cache when it is read
/// much: a look-up of random keys takes 3.5 ns (see benches/ring.rs).
pub const SLOTS: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 18;

/// Tells which of several names owns a key, by a fixed table of [`SLOTS`] slots.
///
/// A look-up hashes the key with xxh3 and reads one slot. The table does not depend on the order in
/// which names are given. Its own order of names is by bytes, and all indices are into
/// [`names`](Table::names).
///
/// Up to 100 names, no name owns more than 1.02 of the mean. When a name joins or leaves, at most
/// 1.1 times as many keys move as must. With more names the balance holds and the movement grows:
/// 1.2x at 300 names.
///
/// Slots are assigned by highest random weight (Thaler and Ravishankar, 1998) under a bound on the
/// slots of a name (the idea of Mirrokni, Thorup and Zadimoghaddam, 2018). To build a table takes
/// about a nanosecond per name and slot: some milliseconds for ten names and some tens for a
/// hundred. Build a new table beside the old one and swap them. Clones share the slots.
///
/// ```
/// use peercache_consistenthash::Table;
///
/// let table = Table::new(["node-a", "node-b", "node-c"])?;
/// let owner = table.owner(b"user:42").expect("the list is not empty");
/// assert!(table.names().iter().any(|name| name == owner));
/// # Ok::<(), peercache_consistenthash::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Table {
    /// Names, sorted by bytes and without duplicates.
    names: Arc<[String]>,
    /// The hash of each name.
    seeds: Arc<[u64]>,
    /// The owner of each slot as an index into `names`. `None` if there are no names.
    slots: Option<Arc<[u16; SLOTS]>>,
}

impl Table {
    /// Makes a table over these names, in any order.
    ///
    /// An empty list makes an empty table, which owns nothing.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateName`] if a name is there twice, [`Error::TooManyNames`] if there are more
    /// than [`MAX_NAMES`](crate::MAX_NAMES).
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, Error> {
        let mut names = names::collect(names)?;
        names.sort_unstable();
        let seeds: Vec<u64> = names.iter().map(|name| xxh3_64(name.as_bytes())).collect();
        let slots = (!seeds.is_empty())
            .then(|| <Arc<[u16]>>::from(assign(&seeds, SLOTS)).try_into().expect("as many owners as slots asked for"));
        Ok(Table { names: names.into(), seeds: seeds.into(), slots })
    }

    /// The owner of `key`, or `None` if the table is empty.
    pub fn owner(&self, key: &[u8]) -> Option<&str> {
        self.owner_index(key).map(|index| self.names[index].as_str())
    }

    /// The owner of `key` as an index into [`names`](Table::names), or `None` if the table is
    /// empty.
    pub fn owner_index(&self, key: &[u8]) -> Option<usize> {
        let slots = self.slots.as_ref()?;
        Some(usize::from(slots[slot_of(key)]))
    }

    /// The first `n` owners of `key`, all different: its owner, then the next in line. All names if
    /// there are fewer.
    ///
    /// The first is always [`owner`](Table::owner). The second owns the key once the first is gone,
    /// unless the bound sends the key elsewhere. That happens to 1 key in 80 among 100 names, and
    /// hardly ever among 20 or fewer. The third owns it once the first two are gone, and so on. The
    /// time is in proportion to the number of names.
    pub fn owners(&self, key: &[u8], n: usize) -> Vec<&str> {
        self.owner_indices(key, n).into_iter().map(|index| self.names[index].as_str()).collect()
    }

    /// The first `n` owners of `key` as indices into [`names`](Table::names).
    pub fn owner_indices(&self, key: &[u8], n: usize) -> Vec<usize> {
        let Some(owner) = self.owner_index(key) else {
            return Vec::new();
        };
        if n <= 1 {
            return Vec::from_iter((n == 1).then_some(owner));
        }
        let slot = slot_of(key);
        let place = |name: usize| (name != owner, Reverse(score(self.seeds[name], slot)), name);
        let mut line: Vec<_> = (0..self.names.len()).map(place).collect();
        if n < line.len() {
            line.select_nth_unstable(n);
            line.truncate(n);
        }
        line.sort_unstable();
        line.into_iter().map(|(_, _, name)| name).collect()
    }

    /// The names in the table's own order: sorted by bytes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The part of all keys that each name owns, 0 to 1, in the order of [`names`](Table::names).
    pub fn shares(&self) -> Vec<f64> {
        let Some(slots) = &self.slots else {
            return Vec::new();
        };
        let counts = count(&slots[..], self.names.len());
        counts.into_iter().map(|owned| owned as f64 / SLOTS as f64).collect()
    }

    /// A fingerprint of the placement: tables with equal digests give every key the same owners, on
    /// any machine.
    ///
    /// It is the xxh3 hash of [`VERSION`](crate::VERSION), the kind of placement and the sorted
    /// names, and so differs from any [`Ring`](crate::Ring)'s. Different lists have different
    /// digests, but for chance (1 in 2^64).
    pub fn digest(&self) -> u64 {
        Digester::new("table").texts(self.names.iter().map(String::as_str)).finish()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The slot of a key: the top bits of its hash.
fn slot_of(key: &[u8]) -> usize {
    (xxh3_64(key) >> (u64::BITS - SLOT_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [&str; 3] = ["http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003"];

    fn table(names: &[String]) -> Table {
        Table::new(names).unwrap()
    }

    fn urls(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("http://10.0.0.{i}:8080")).collect()
    }

    fn hosts(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("node-{i}.cache.svc")).collect()
    }

    fn owner_of_slot(table: &Table, slot: usize) -> &str {
        &table.names[usize::from(table.slots.as_ref().unwrap()[slot])]
    }

    /// Slots with different owners, as a multiple of those that must move when one of `larger`'s
    /// names goes.
    fn moved(larger: &Table, smaller: &Table) -> f64 {
        let moved = (0..SLOTS).filter(|&slot| owner_of_slot(larger, slot) != owner_of_slot(smaller, slot)).count();
        moved as f64 / (SLOTS as f64 / larger.names.len() as f64)
    }

    fn largest_share_over_mean(table: &Table) -> f64 {
        table.shares().into_iter().fold(0.0, f64::max) * table.names.len() as f64
    }

    fn hash_of_slots(table: &Table) -> u64 {
        let slots = table.slots.as_ref().unwrap();
        xxh3_64(&slots.iter().flat_map(|owner| owner.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Sizes of lists up to the largest that the promises are made for.
    fn sizes() -> impl Iterator<Item = usize> {
        (2..=20).chain([50, 99, 100])
    }

    #[test]
    fn no_name_owns_more_than_its_bound() {
        for names in sizes().flat_map(|n| [urls(n), hosts(n)]) {
            let largest = largest_share_over_mean(&table(&names));
            assert!(largest <= 1.0201, "{} names like {}: {largest}", names.len(), names[0]);
        }
    }

    #[test]
    fn a_change_of_one_name_moves_hardly_more_than_it_must() {
        for names in sizes().flat_map(|n| [urls(n), hosts(n)]) {
            let whole = table(&names);
            for gone in [0, names.len() / 2, names.len() - 1] {
                let mut rest = names.clone();
                rest.remove(gone);
                let moved = moved(&whole, &table(&rest));
                assert!(moved <= 1.1, "{} names like {}: {moved}", names.len(), names[0]);
            }
        }
    }

    #[test]
    fn second_in_line_takes_over_but_for_few_keys() {
        for (size, wrong_max) in [(3, 0.0001), (20, 0.0005), (100, 0.02)] {
            let names = urls(size);
            let whole = table(&names);
            let rest = table(&names[1..]);
            let keys: Vec<String> = (0..300_000)
                .map(|i| format!("user:{i}"))
                .filter(|key| whole.owner(key.as_bytes()) == Some(&names[0]))
                .collect();
            let wrong = keys
                .iter()
                .map(String::as_bytes)
                .filter(|key| rest.owner(key) != Some(whole.owners(key, 2)[1]))
                .count();
            let part = wrong as f64 / keys.len() as f64;

            assert!(part <= wrong_max, "{size} names: {part}");
        }
    }

    #[test]
    fn most_names_are_taken_and_share() {
        let table = table(&hosts(crate::limits::MAX_NAMES));
        assert_eq!(count(&table.slots.unwrap()[..], crate::limits::MAX_NAMES).iter().max(), Some(&65));
    }

    // The tests below are the contract between members. A change here is a new `VERSION`.

    // From the xxHash specification's own implementation: XXH3, 64 bits, no seed, no input.
    #[test]
    fn slots_of_keys_are_the_top_bits_of_xxh3() {
        assert_eq!(slot_of(b""), 0x2d06_8005_38d3_94c2 >> 46);
    }

    #[test]
    fn golden_owners() {
        let table = Table::new(THREE).unwrap();
        let keys: [&[u8]; 16] = [
            b"",
            b"a",
            b"hello",
            b"key-0",
            b"key-1",
            b"user:42",
            b"a b",
            "é".as_bytes(),
            b"\xff\xfe",
            b"Red",
            b"Green",
            b"Blue",
            "张三".as_bytes(),
            &[0; 17],
            &[0x55; 200],
            &[0xff; 65_536],
        ];
        let owners: String = keys.iter().map(|key| table.owner(key).unwrap().chars().last().unwrap()).collect();
        assert_eq!(owners, "1131311222112323");
    }

    #[test]
    fn golden_line_of_owners() {
        let table = table(&urls(10));
        assert_eq!(table.owner_indices(b"user:42", 10), [5, 1, 8, 0, 7, 3, 2, 4, 9, 6]);
    }

    #[test]
    fn golden_slots() {
        let hashes = [
            hash_of_slots(&Table::new(["a"]).unwrap()),
            hash_of_slots(&Table::new(THREE).unwrap()),
            hash_of_slots(&table(&urls(10))),
            hash_of_slots(&table(&urls(100))),
        ];
        assert_eq!(hashes, [18249793289083243590, 6152475688816044540, 13984483057356799852, 1798744739137669149]);
    }

    #[test]
    fn golden_digests() {
        let digests = [
            Table::default().digest(),
            Table::new(["a"]).unwrap().digest(),
            Table::new(THREE).unwrap().digest(),
            table(&urls(100)).digest(),
        ];
        assert_eq!(digests, [7514907325741528500, 16560597242297963728, 15466876131414806587, 14468090619747179450]);
    }
}
