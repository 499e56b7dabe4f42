//! The promises of every table, for any names and keys.

use std::collections::{BTreeSet, HashSet};

use peercache_consistenthash::{Error, MAX_NAMES, Table};
use proptest::prelude::*;

fn names(count: std::ops::Range<usize>) -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set(any::<String>(), count)
}

fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..50)
}

/// A set of names in two orders.
fn two_orders() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    names(0..12).prop_flat_map(|names| {
        let names = Vec::from_iter(names);
        (Just(names.clone()).prop_shuffle(), Just(names).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn order_of_names_does_not_matter((one, other) in two_orders(), keys in keys()) {
        let (one, other) = (Table::new(one).unwrap(), Table::new(other).unwrap());
        prop_assert_eq!(one.digest(), other.digest());
        prop_assert_eq!(one.names(), other.names());
        prop_assert_eq!(one.shares(), other.shares());
        for key in &keys {
            prop_assert_eq!(one.owners(key, 12), other.owners(key, 12));
        }
    }

    #[test]
    fn digests_are_equal_only_for_equal_names(one in names(0..6), other in names(0..6)) {
        let digests_equal = Table::new(&one).unwrap().digest() == Table::new(&other).unwrap().digest();
        prop_assert_eq!(digests_equal, one == other);
    }

    #[test]
    fn owners_are_all_different_and_begin_with_the_owner(names in names(1..12), keys in keys(), n in 0_usize..15) {
        let table = Table::new(&names).unwrap();
        for key in &keys {
            let owners = table.owners(key, n);
            prop_assert_eq!(owners.len(), n.min(names.len()));
            prop_assert_eq!(HashSet::<&str>::from_iter(owners.iter().copied()).len(), owners.len());
            prop_assert_eq!(owners.first().copied(), table.owner(key).filter(|_| n > 0));
        }
    }

    #[test]
    fn fewer_owners_are_the_beginning_of_more(names in names(1..12), keys in keys(), n in 0_usize..12) {
        let table = Table::new(&names).unwrap();
        for key in &keys {
            let all = table.owners(key, usize::MAX);
            prop_assert_eq!(table.owners(key, n), &all[..n.min(all.len())]);
        }
    }

    #[test]
    fn names_are_sorted_and_indices_point_into_them(names in names(1..12), keys in keys()) {
        let table = Table::new(&names).unwrap();
        prop_assert!(table.names().iter().eq(names.iter()));
        for key in &keys {
            let owner = &table.names()[table.owner_index(key).unwrap()];
            prop_assert_eq!(table.owner(key), Some(owner.as_str()));
        }
    }

    #[test]
    fn shares_stay_under_the_bound_and_add_up(names in names(1..40)) {
        let shares = Table::new(&names).unwrap().shares();
        prop_assert_eq!(shares.len(), names.len());
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(shares.iter().all(|share| share * names.len() as f64 <= 1.0201), "{:?}", shares);
    }

    #[test]
    fn few_keys_move_between_names_that_stay(names in names(2..20), gone in any::<prop::sample::Index>()) {
        let whole = Table::new(&names).unwrap();
        let gone = gone.index(names.len());
        let gone = whole.names()[gone].clone();
        let rest = Table::new(names.iter().filter(|name| **name != gone)).unwrap();
        let keys = || (0_u32..20_000).map(u32::to_le_bytes);
        let astray = keys()
            .filter(|key| whole.owner(key) != Some(&gone) && whole.owner(key) != rest.owner(key))
            .count();
        prop_assert!(astray <= 200, "{} of 20,000 keys moved without need", astray);
    }
}

#[test]
fn sampled_keys_are_shared_as_the_slots_are() {
    let table = Table::new((0..100).map(|i| format!("http://10.0.0.{i}:8080"))).unwrap();
    let mut counts = vec![0_u32; 100];
    for i in 0..1_000_000 {
        counts[table.owner_index(format!("user:{i}").as_bytes()).unwrap()] += 1;
    }
    // Chance adds some 3 standard deviations, 1 % each, to the table's own 2 %.
    let largest = f64::from(*counts.iter().max().unwrap()) / 10_000.0;
    assert!(largest <= 1.055, "{largest}");
}

// Among 100 names the bound sends some slots away from the name that scores highest on them.
#[test]
fn line_begins_with_the_owner_also_where_the_bound_chose_it() {
    let table = Table::new((0..100).map(|i| format!("http://10.0.0.{i}:8080"))).unwrap();
    let astray = (0_u32..50_000)
        .map(u32::to_le_bytes)
        .filter(|key| table.owner_indices(key, 2).first() != table.owner_index(key).as_ref())
        .count();
    assert_eq!(astray, 0);
}

#[test]
fn an_empty_list_owns_nothing() {
    let table = Table::new(Vec::<String>::new()).unwrap();
    assert_eq!((table.owner(b"key"), table.owner_index(b"key")), (None, None));
    assert_eq!((table.owners(b"key", 3).len(), table.names().len(), table.shares().len()), (0, 0, 0));
}

#[test]
fn default_is_the_empty_table() {
    assert_eq!(Table::default().digest(), Table::new(Vec::<String>::new()).unwrap().digest());
}

#[test]
fn one_name_owns_everything() {
    let table = Table::new(["only"]).unwrap();
    assert_eq!(table.shares(), [1.0]);
    assert_eq!(table.owners(b"any", 5), ["only"]);
}

#[test]
fn a_name_given_twice_is_refused() {
    assert_eq!(Table::new(["a", "b", "a"]).unwrap_err(), Error::DuplicateName("a".to_owned()));
}

#[test]
fn an_endless_list_is_refused() {
    assert_eq!(Table::new((0..).map(|i: u64| i.to_string())).unwrap_err(), Error::TooManyNames);
}

#[test]
fn one_name_too_many_is_refused() {
    assert_eq!(Table::new((0..=MAX_NAMES).map(|i| i.to_string())).unwrap_err(), Error::TooManyNames);
}

#[test]
fn errors_name_the_thing() {
    let error = Table::new(["http://a", "http://a"]).unwrap_err();
    assert_eq!(error.to_string(), "name \"http://a\" is in the list twice");
}

#[test]
fn names_that_differ_only_in_where_they_end_have_different_digests() {
    let digest = |names: [&str; 2]| Table::new(names).unwrap().digest();
    assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
}

#[test]
fn can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>() {}
    shared::<Table>();
}
