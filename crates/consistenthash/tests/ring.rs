//! The ring answers as golang/groupcache does, and as a slow obvious model does.

use std::collections::HashSet;

use peercache_consistenthash::{Error, MAX_REPLICAS, Profile, Ring, Table};
use proptest::prelude::*;

const THREE: [&str; 3] = ["http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003"];

/// The answers of golang/groupcache at 2c02b82 over `THREE`: `consistenthash.New(50, nil)`,
/// `Add(THREE...)`, `Get(key)`, the last digit of the port.
const GOLANG: [(&[u8], char); 12] = [
    (b"", '1'),
    (b"a", '3'),
    (b"hello", '1'),
    (b"key-0", '2'),
    (b"key-1", '1'),
    (b"user:42", '3'),
    (b"a b", '2'),
    ("é".as_bytes(), '1'),
    (b"\xff\xfe", '2'),
    (b"Red", '1'),
    (b"Green", '1'),
    (b"Blue", '1'),
];

#[test]
fn owners_are_those_of_golang() {
    let ring = Ring::golang(THREE).unwrap();
    let ours = GOLANG.map(|(key, _)| ring.owner(key).unwrap().chars().last().unwrap());
    assert_eq!(ours, GOLANG.map(|(_, golang)| golang));
}

/// The value of a number written out; a point is its replica's digit and then the name's.
fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

fn ring_of_numbers(names: &[&str]) -> Ring {
    Ring::new(Profile::new("number", number, number).replicas(3), names).unwrap()
}

#[test]
fn golangs_own_ring_of_three() {
    // Points 2, 4, 6, 12, 14, 16, 22, 24, 26.
    let ring = ring_of_numbers(&["6", "4", "2"]);
    let owners = ["2", "11", "23", "27"].map(|key| ring.owner(key.as_bytes()).unwrap());
    assert_eq!(owners, ["2", "2", "4", "2"]);
}

#[test]
fn golangs_own_ring_after_one_more() {
    let ring = ring_of_numbers(&["6", "4", "2", "8"]);
    let owners = ["2", "11", "23", "27"].map(|key| ring.owner(key.as_bytes()).unwrap());
    assert_eq!(owners, ["2", "2", "4", "8"]);
}

#[test]
fn a_key_on_a_point_belongs_to_that_point() {
    assert_eq!(ring_of_numbers(&["6", "4", "2"]).owner(b"14"), Some("4"));
}

#[test]
fn past_the_last_point_comes_the_first() {
    assert_eq!(ring_of_numbers(&["6", "4", "2"]).owners(b"25", 3), ["6", "2", "4"]);
}

/// Both names have the points 0 and 1.
fn tied(names: [&str; 2]) -> Ring {
    fn replica(bytes: &[u8]) -> u64 {
        u64::from(bytes[0])
    }
    Ring::new(Profile::new("tied", replica, replica).replicas(2), names).unwrap()
}

#[test]
fn of_equal_points_the_last_added_wins() {
    assert_eq!(tied(["a", "b"]).owner(b"0"), Some("b"));
    assert_eq!(tied(["b", "a"]).owner(b"0"), Some("a"));
}

#[test]
fn of_equal_points_the_other_is_next_in_line() {
    assert_eq!(tied(["a", "b"]).owners(b"0", 2), ["b", "a"]);
}

#[test]
fn order_of_tied_names_shows_in_the_digest() {
    assert_ne!(tied(["a", "b"]).digest(), tied(["b", "a"]).digest());
}

#[test]
fn order_of_names_without_ties_does_not_show_in_the_digest() {
    let backwards: Vec<_> = THREE.into_iter().rev().collect();
    assert_eq!(Ring::golang(THREE).unwrap().digest(), Ring::golang(backwards).unwrap().digest());
}

#[test]
fn golden_digests() {
    let digests = [
        Ring::golang(Vec::<String>::new()).unwrap().digest(),
        Ring::golang(["a"]).unwrap().digest(),
        Ring::golang(THREE).unwrap().digest(),
    ];
    assert_eq!(digests, [2683844579812322754, 9061816588107308255, 13688323627453677275]);
}

#[test]
fn digest_tells_profiles_and_kinds_apart() {
    let digests = HashSet::from([
        Ring::golang(THREE).unwrap().digest(),
        Ring::new(Profile::GOLANG.replicas(51), THREE).unwrap().digest(),
        Ring::new(Profile::new("a", number_of_bytes, number_of_bytes), THREE).unwrap().digest(),
        Ring::new(Profile::new("b", number_of_bytes, number_of_bytes), THREE).unwrap().digest(),
        Table::new(THREE).unwrap().digest(),
    ]);
    assert_eq!(digests.len(), 5);
}

fn number_of_bytes(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

#[test]
fn an_empty_list_owns_nothing() {
    let ring = Ring::golang(Vec::<String>::new()).unwrap();
    assert_eq!((ring.owner(b"key"), ring.owner_index(b"key"), ring.owners(b"key", 2)), (None, None, vec![]));
}

#[test]
fn names_keep_their_order() {
    let ring = Ring::golang(["b", "c", "a"]).unwrap();
    assert_eq!(ring.names(), ["b", "c", "a"]);
    assert_eq!(ring.owner(b"key"), Some(ring.names()[ring.owner_index(b"key").unwrap()].as_str()));
}

#[test]
fn a_name_given_twice_is_refused() {
    assert_eq!(Ring::golang(["a", "a"]).unwrap_err(), Error::DuplicateName("a".to_owned()));
}

#[test]
fn an_endless_list_is_refused() {
    assert_eq!(Ring::golang((0..).map(|i: u64| i.to_string())).unwrap_err(), Error::TooManyNames);
}

#[test]
fn replicas_out_of_bounds_are_refused() {
    for replicas in [0, MAX_REPLICAS + 1] {
        let refused = Ring::new(Profile::GOLANG.replicas(replicas), THREE).unwrap_err();
        assert_eq!(refused, Error::Replicas(replicas));
    }
}

/// A hash with many ties.
fn coarse(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 61
}

fn first_byte(bytes: &[u8]) -> u64 {
    bytes[0].into()
}

fn coarse_ring(names: &[String], replicas: usize) -> Ring {
    Ring::new(Profile::new("coarse", coarse, first_byte).replicas(replicas), names).unwrap()
}

/// The owner by a look at every point: the nearest one going up, or else the lowest of all; of
/// equals the last added.
fn owner_by_scan(names: &[String], replicas: usize, hash: u64) -> Option<&str> {
    let mut nearest: Option<(bool, u64, &str)> = None;
    for name in names {
        for replica in 0..replicas {
            let point = coarse(format!("{replica}{name}").as_bytes());
            let behind = point < hash;
            if nearest.is_none_or(|best| (behind, point) <= (best.0, best.1)) {
                nearest = Some((behind, point, name));
            }
        }
    }
    nearest.map(|(_, _, name)| name)
}

fn sorted_names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-z:/.0-9é]{0,6}", 0..10).prop_map(Vec::from_iter)
}

fn names() -> impl Strategy<Value = Vec<String>> {
    sorted_names().prop_shuffle()
}

proptest! {
    #[test]
    fn owner_is_that_of_the_scan(names in names(), replicas in 1_usize..12, hash: u8) {
        let ring = coarse_ring(&names, replicas);
        prop_assert_eq!(ring.owner(&[hash]), owner_by_scan(&names, replicas, hash.into()));
    }

    #[test]
    fn owners_inherit_one_after_the_other(names in names(), replicas in 1_usize..12, hash: u8) {
        let owners = coarse_ring(&names, replicas);
        let owners = owners.owners(&[hash], usize::MAX);
        let mut rest = names;
        for owner in &owners {
            prop_assert_eq!(Some(*owner), owner_by_scan(&rest, replicas, hash.into()));
            rest.retain(|name| name != owner);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn fewer_owners_are_the_beginning_of_more(names in names(), hash: u8, n in 0_usize..12) {
        let ring = coarse_ring(&names, 5);
        let all = ring.owners(&[hash], usize::MAX);
        prop_assert_eq!(ring.owners(&[hash], n), &all[..n.min(all.len())]);
    }

    #[test]
    fn equal_digests_mean_equal_owners(
        (one, other) in names().prop_flat_map(|names| (Just(names.clone()), Just(names).prop_shuffle())),
        replicas in 1_usize..4,
    ) {
        let (one, other) = (coarse_ring(&one, replicas), coarse_ring(&other, replicas));
        let alike = (0..=255).all(|hash| one.owners(&[hash], 10) == other.owners(&[hash], 10));
        prop_assert!(alike || one.digest() != other.digest());
    }

    #[test]
    fn digests_are_equal_only_for_equal_names(one in sorted_names(), other in sorted_names()) {
        let same_digest = Ring::golang(&one).unwrap().digest() == Ring::golang(&other).unwrap().digest();
        prop_assert_eq!(same_digest, one == other);
    }

    #[test]
    fn names_that_stay_keep_their_keys(names in names(), keys in prop::collection::vec(any::<[u8; 8]>(), 50)) {
        prop_assume!(!names.is_empty());
        let (whole, rest) = (Ring::golang(&names).unwrap(), Ring::golang(&names[1..]).unwrap());
        for key in keys {
            let owner = whole.owner(&key);
            prop_assert!(owner == Some(&names[0]) || rest.owner(&key) == owner);
        }
    }
}
