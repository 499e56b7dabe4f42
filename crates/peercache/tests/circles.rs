//! Loaders that ask for each other's keys across members, over real sockets.

mod support;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use peercache::{Bytes, ErrorKind, Group, Key, LoadError, Node, loader_fn_with};
use support::{GROUP, listeners, name_of, pool, watched};

/// The group of the node that loads, and the key that its loader asks for to load another.
#[derive(Clone, Default)]
struct Asks {
    group: Arc<OnceLock<Group<Bytes>>>,
    next: Arc<OnceLock<Vec<String>>>,
}

impl Asks {
    async fn load(self, key: Key) -> Result<Bytes, LoadError> {
        let (group, keys) = (self.group.get().expect("it is built"), self.next.get().expect("it is set"));
        let at = keys.iter().position(|other| other.as_bytes() == key.as_bytes()).expect("it is one of them");
        Ok(group.get(&keys[(at + 1) % keys.len()]).await?)
    }
}

/// Each of as many members has a key, and loads it by asking for the key of the next.
async fn circle_of<const N: usize>() -> (Vec<Group<Bytes>>, Vec<String>) {
    let listeners = listeners::<N>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    let (mut groups, mut keys, next) = (Vec::new(), Vec::new(), Arc::<OnceLock<_>>::default());
    for listener in listeners {
        let node = Node::builder(name_of(&listener)).members(&list).transport(pool()).build().unwrap();
        let asks = Asks { group: Arc::default(), next: next.clone() };
        let hour = Duration::from_secs(3_600);
        let group = node.group(GROUP, loader_fn_with(asks.clone(), Asks::load)).load_timeout(hour).build().unwrap();
        asks.group.set(group.clone()).unwrap();
        let is_own = |key: &String| node.owner(key) == name_of(&listener);
        keys.extend((0..).map(|nth| format!("key {nth}")).find(is_own));
        groups.push(group);
        tokio::spawn(async move { node.serve(listener).await });
    }
    next.set(keys.clone()).unwrap();
    (groups, keys)
}

/// The words of an error and of those that caused it.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn a_loader_that_waits_for_itself_by_way_of_other_members_is_told_at_once() {
    told_at_once(circle_of::<2>().await).await;
    told_at_once(circle_of::<4>().await).await;
}

async fn told_at_once((groups, keys): (Vec<Group<Bytes>>, Vec<String>)) {
    for group in &groups {
        let error = watched(group.get(&keys[0])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoadFailed);
        assert!(words(&error).contains("asked for the key that it is loading"), "{}", words(&error));
    }
}
