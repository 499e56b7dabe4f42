//! Every future may be dropped at every await, and every task at every step: nothing is left over,
//! and no other caller is hurt.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
};

use futures_core::Stream;
use peercache_groupcache::{Bytes, Group};
use support::{
    cluster::{ABC, Cluster},
    ms,
    net::Kind::{Acks, Removes, Sets},
    poll_once, settle, soon,
    updates::all_hold_the_old_value,
};
use tokio::{
    task::{JoinHandle, yield_now},
    time::sleep,
};

/// An operation that a caller can drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Get,
    Detailed,
    GetMany,
    Stream,
    Remove,
    RemoveMany,
    Clear,
    Set,
}

const OPS: [Op; 8] = [Op::Get, Op::Detailed, Op::GetMany, Op::Stream, Op::Remove, Op::RemoveMany, Op::Clear, Op::Set];

impl Op {
    fn start(self, group: Group<Bytes>, keys: Vec<String>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let key = &keys[0];
            match self {
                Op::Get => drop(group.get(key).await.unwrap()),
                Op::Detailed => drop(group.get(key).timeout(ms(60_000)).detailed().await.unwrap()),
                Op::GetMany => drop(group.get_many(&keys).timeout(ms(60_000)).await),
                Op::Stream => {
                    let mut stream = group.get_many(&keys).stream();
                    while poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await.is_some() {}
                }
                Op::Remove => group.remove(key).await.unwrap(),
                Op::RemoveMany => group.remove_many(&keys).await.unwrap(),
                Op::Clear => group.clear().await.unwrap(),
                Op::Set => group.set(key, Bytes::from("set")).await.unwrap(),
            }
        })
    }

    fn is_update(self) -> bool {
        matches!(self, Op::Remove | Op::RemoveMany | Op::Clear | Op::Set)
    }
}

/// Polls `future` this many times at most and drops it then. `None` if it had not ended.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    if left == 0 {
        return None;
    }
    poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Three nodes with loads that take 50 ms, and some keys of each, the first of them one of `b`.
fn cluster() -> (Cluster, Vec<String>) {
    let cluster = Cluster::new(ABC);
    cluster.origin.delay(ms(50));
    let keys = ["b", "c", "a"].iter().flat_map(|owner| cluster.keys_of(owner, 3)).collect();
    (cluster, keys)
}

/// Asserts that a dropped operation has left nothing in flight, that an update was made to its end,
/// and that the next operations work.
async fn assert_sound(op: Op, begun: bool, cluster: &Cluster, keys: &[String], case: &str) {
    sleep(ms(3_000)).await;
    settle().await;
    for node in cluster.nodes() {
        assert_eq!(node.group.stats().in_flight, 0, "{case}, node {}", node.name);
    }
    let expected = match op {
        Op::Set if begun => "set set set",
        Op::Remove | Op::RemoveMany | Op::Clear if begun => "v2 v2 v2",
        _ => "v1 v1 v1",
    };
    assert_eq!(cluster.read(&keys[0]).await, expected, "{case}");
    for key in keys {
        soon(cluster["c"].group.remove(key)).await.unwrap();
    }
    assert_eq!(cluster.read(&keys[0]).await, "v2 v2 v2", "{case}");
}

/// Has all nodes hold `v1` if the operation is an update, and then the origin `v2`.
async fn prepare(op: Op, cluster: &Cluster, keys: &[String]) {
    for key in keys.iter().filter(|_| op.is_update()) {
        cluster.read(key).await;
    }
    if op.is_update() {
        cluster.origin.change();
    }
}

#[tokio::test(start_paused = true)]
async fn every_future_may_be_dropped_at_every_await() {
    for op in OPS {
        for polls in 0.. {
            let (cluster, keys) = cluster();
            prepare(op, &cluster, &keys).await;
            let ended = soon(dropped_after(polls, op.start(cluster["a"].group.clone(), keys.clone()))).await;
            if !op.is_update() {
                sleep(ms(100)).await;
                assert_eq!(cluster["a"].read(&keys[0]).await, "v1");
                assert!(cluster.origin.calls() <= keys.len(), "{op:?} after {polls} polls loads nothing twice");
                cluster.origin.change();
            }
            assert_sound(op, polls > 0, &cluster, &keys, &format!("{op:?} dropped after {polls} polls")).await;
            if ended.is_some() {
                assert!(polls > 1, "{op:?} waits for something");
                break;
            }
        }
    }
}

/// Starts the operation as a task that says when it has begun.
fn spawn(op: Op, group: Group<Bytes>, keys: Vec<String>) -> (JoinHandle<()>, Arc<AtomicBool>) {
    let begun = Arc::new(AtomicBool::new(false));
    let begins = begun.clone();
    let task = tokio::spawn(async move {
        begins.store(true, SeqCst);
        op.start(group, keys).await;
    });
    (task, begun)
}

#[tokio::test(start_paused = true)]
async fn every_caller_may_go_at_every_step_of_the_runtime() {
    for op in OPS {
        for steps in 0.. {
            let (cluster, keys) = cluster();
            prepare(op, &cluster, &keys).await;
            cluster.origin.delay(ms(0));
            let (caller, begun) = spawn(op, cluster["a"].group.clone(), keys.clone());
            for _ in 0..steps {
                yield_now().await;
            }
            let ended = caller.is_finished();
            caller.abort();
            let _ = caller.await;
            if !op.is_update() {
                settle().await;
                assert_eq!(cluster["a"].read(&keys[0]).await, "v1");
                cluster.origin.change();
            }
            assert_sound(op, begun.load(SeqCst), &cluster, &keys, &format!("{op:?} gone after {steps} steps")).await;
            if ended {
                assert!(steps > 0, "{op:?} takes some steps");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_whenever_another_caller_has_gone() {
    for op in [Op::Get, Op::Detailed, Op::GetMany, Op::Stream] {
        for steps in 0..10 {
            let (cluster, keys) = cluster();
            let (gone, _) = spawn(op, cluster["a"].group.clone(), keys.clone());
            let waiting: Vec<_> = cluster.nodes().map(|node| node.caller(&keys[0])).collect();
            for _ in 0..steps {
                yield_now().await;
            }
            gone.abort();
            for waiting in waiting {
                assert_eq!(waiting.await.unwrap(), "v1", "{op:?} gone after {steps} steps");
            }
            let loads = cluster.origin.call_log().iter().filter(|call| call.key == keys[0].as_bytes()).count();
            assert_eq!(loads, 1, "{op:?} gone after {steps} steps");
        }
    }
}

/// The caller goes while a member has not got the update, or has got it but its acknowledgement has
/// not arrived.
#[tokio::test(start_paused = true)]
async fn an_update_is_made_to_its_end_though_its_caller_has_gone() {
    for op in [Op::Remove, Op::RemoveMany, Op::Clear, Op::Set] {
        for held in [Removes, Acks, Sets] {
            let (cluster, keys) = cluster();
            prepare(op, &cluster, &keys).await;
            cluster.net.pause("b", held);
            let (caller, _) = spawn(op, cluster["a"].group.clone(), keys.clone());
            settle().await;
            caller.abort();
            let _ = caller.await;
            cluster.net.resume("b", held);
            assert_sound(op, true, &cluster, &keys, &format!("{op:?} with {held:?} held up")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_remove_goes_on() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    assert!(poll_once(cluster["a"].group.remove(&key)).await.is_pending());
    settle().await;
    cluster.net.resume("b", Removes);
    settle().await;
    assert_eq!(cluster.read(&key).await, "v2 v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_set_goes_on() {
    let (cluster, key) = all_hold_the_old_value().await;
    cluster.net.pause("b", Removes);
    assert!(poll_once(cluster["a"].group.set(&key, Bytes::from("set"))).await.is_pending());
    settle().await;
    cluster.net.resume("b", Removes);
    settle().await;
    assert_eq!(cluster.read(&key).await, "set set set");
}
