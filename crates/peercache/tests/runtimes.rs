//! A process with several runtimes, one of which nobody drives, over real sockets.

mod support;

use std::{sync::mpsc, thread};

use futures_util::future::{Either, select};
use peercache::{Bytes, Group, Node, loader_fn_with};
use support::{GROUP, Member, Origin, listeners, name_of, pool, watched};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls a get once, and drives the runtime no further.
fn begin(runtime: &Runtime, group: &Group<Bytes>, key: &str) {
    runtime.block_on(async {
        let get = std::pin::pin!(group.get(key));
        assert!(matches!(select(get, std::future::ready(())).await, Either::Right(_)), "{key} is cached");
    });
}

#[test]
fn a_peer_that_was_asked_first_in_a_runtime_that_nobody_drives_is_asked_in_another() {
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let origin = Origin::default();
    let of_owner = origin.clone();
    // The owner, in a thread of its own.
    let serving = thread::spawn(move || {
        runtime().block_on(async {
            let [asker, owner] = listeners::<2>().await;
            let list = [name_of(&asker), name_of(&owner)];
            let owner = Member::start(owner, &list, pool(), |group| group, &of_owner);
            sender.send(list).unwrap();
            let _ = stopped.await;
            drop(owner);
        });
    });
    // The asker neither serves nor was given a runtime.
    let list = receiver.recv().unwrap();
    let node = Node::builder(&list[0]).members(&list).transport(pool()).build().unwrap();
    let group = node.group(GROUP, loader_fn_with(origin.clone(), Origin::load)).build().unwrap();
    let is_theirs = |key: &String| node.owner(key) == list[1];
    let keys: Vec<String> = (0..).map(|nth| format!("key {nth}")).filter(is_theirs).take(3).collect();
    let (parked, live) = (runtime(), runtime());
    begin(&parked, &group, &keys[0]);
    live.block_on(async {
        for nth in [1, 0, 2] {
            assert_eq!(watched(group.get(&keys[nth])).await.unwrap(), keys[nth].as_bytes(), "{nth}");
        }
        watched(group.set(&keys[0], Bytes::from_static(b"set"))).await.unwrap();
        assert_eq!(watched(group.get(&keys[0])).await.unwrap(), "set");
        watched(group.remove(&keys[0])).await.unwrap();
    });
    assert_eq!(origin.calls(), 3, "its owner loads each key once");
    // Driven again, the first one goes on.
    assert_eq!(parked.block_on(watched(group.get(&keys[0]))).unwrap(), keys[0].as_bytes());
    drop(stop);
    serving.join().unwrap();
}
