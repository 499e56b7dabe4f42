//! Settings, member lists and names that make no sense are refused when they are given.

mod support;

use std::time::Duration;

use peercache_groupcache::{BuildError, Bytes, Clock, Group, GroupBuilder, Groups, Members, loader_fn};
use support::{
    GROUP,
    cluster::{AB, Cluster},
};

/// A group with these settings, at a node alone.
fn build(set: impl FnOnce(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>) -> Result<Group<Bytes>, BuildError> {
    let groups = Groups::with_clock(Members::alone(), Clock::tokio());
    set(groups.group("g", loader_fn(|_| async { Ok(Bytes::new()) }))).build()
}

#[tokio::test]
async fn a_jitter_that_is_no_share_is_refused() {
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = build(|group| group.expiry_jitter(share)).unwrap_err();
        assert!(matches!(refused, BuildError::Setting { name: "expiry_jitter", .. }), "{share}: {refused}");
    }
}

#[tokio::test]
async fn a_time_to_live_beyond_all_clocks_is_refused() {
    assert!(matches!(build(|group| group.time_to_live(Duration::MAX)), Err(BuildError::Setting { .. })));
}

#[tokio::test]
async fn limits_of_zero_are_refused_unless_they_mean_no_queue() {
    assert!(matches!(build(|group| group.max_concurrent_loads(0)), Err(BuildError::Setting { .. })));
    assert!(matches!(build(|group| group.max_concurrent_fetches(0)), Err(BuildError::Setting { .. })));
    assert!(build(|group| group.max_queued_loads(0)).is_ok());
}

#[test]
fn a_bad_member_list_is_refused_and_the_old_one_stays() {
    let cluster = Cluster::new(AB);
    let members = &cluster["a"].members;
    let refused = |list: &[&str]| members.set(list.to_vec()).unwrap_err();
    assert_eq!(refused(&[]), BuildError::NoMembers);
    assert_eq!(refused(&["b"]), BuildError::SelfMissing("a".into()));
    assert_eq!(refused(&["a", "b", "b"]), BuildError::DuplicateMember("b".into()));
    assert_eq!(members.view().names(), AB);
}

#[test]
fn a_groups_name_is_taken_until_the_group_is_removed() {
    let cluster = Cluster::new(["a"]);
    let groups = &cluster["a"].groups;
    let again = || groups.group(GROUP, cluster.origin.clone()).build();
    assert_eq!(again().unwrap_err(), BuildError::DuplicateGroup(GROUP.to_owned()));
    assert!(groups.remove(GROUP) && !groups.remove(GROUP));
    again().unwrap();
}
