//! One group, one runtime or one address of a name costs the others nothing.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc as std_mpsc,
};

use bytes::Bytes;
use peercache_groupcache::{Change, Connect, Member, PeerRequest, PeerUpdate, Reply, Served, SetValue, Stamp};
use peercache_transport_http::{Dialect, HttpPool};
use support::{ack, ask, found, group, groups, node, pool, send_update, soon, updated_group, words_of};
use tokio::{io::AsyncWriteExt, net::TcpStream, runtime::Builder, sync::Notify, time::Duration};

/// The connections of one pair of nodes in these tests.
const CONNECTIONS: usize = 8;

#[tokio::test]
async fn a_group_whose_origin_hangs_leaves_connections_for_others_and_for_updates() {
    for dialect in [Dialect::Native, Dialect::Golang] {
        let groups = groups();
        let (begun, loading) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, notify) = (begun.clone(), loading.clone());
        group(&groups, "hangs", move |_| {
            count.fetch_add(1, SeqCst);
            notify.notify_one();
            Served::Loading(Box::pin(std::future::pending()))
        });
        group(&groups, "well", |key| found(Bytes::copy_from_slice(key)));
        updated_group(&groups, "updated", |_| Ok(ack(1)));
        let node = node(groups).await;
        let builder = HttpPool::builder().max_connections(CONNECTIONS).dialect(dialect);
        let peer = pool(builder).connect(&Member::from(&node.url())).unwrap();
        // Each has a connection of its own before the next is asked for.
        for key in 0..CONNECTIONS - 2 {
            peer.get(PeerRequest::new("hangs", key.to_string()), Reply::new(drop));
            soon(loading.notified()).await;
        }
        for key in 0..100 {
            peer.get(PeerRequest::new("hangs", format!("more {key}")), Reply::new(drop));
        }
        for _ in 0..3 {
            let answer = words_of(soon(ask(&peer, PeerRequest::new("well", "k"))).await);
            assert_eq!(answer, "value b\"k\"", "{dialect:?}");
        }
        let update = PeerUpdate::new("updated", 7, Change::Clear);
        soon(send_update(&peer, update, Duration::from_secs(30))).await.expect("it is acknowledged");
        if dialect == Dialect::Golang {
            assert_eq!(begun.load(SeqCst), CONNECTIONS - 2, "a group has three quarters at most");
        }
    }
}

#[test]
fn a_fetch_does_not_wait_for_a_runtime_that_nobody_drives() {
    let server = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = server.block_on(async {
        let groups = groups();
        group(&groups, "well", |key| found(Bytes::copy_from_slice(key)));
        node(groups).await
    });
    let parked = Builder::new_current_thread().enable_all().build().unwrap();
    let live = Builder::new_current_thread().enable_all().build().unwrap();
    let peer = {
        let _entered = parked.enter();
        pool(HttpPool::builder()).connect(&Member::from(&node.url())).unwrap()
    };
    for key in ["one", "two", "three"] {
        let _entered = parked.enter();
        peer.get(PeerRequest::new("well", key), Reply::new(drop));
    }
    let answer = live.block_on(async { soon(ask(&peer, PeerRequest::new("well", "four"))).await });
    assert_eq!(words_of(answer), "value b\"four\"");
}

#[test]
fn what_waits_in_a_runtime_that_shuts_down_fails_without_a_deadlock() {
    let server = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = server.block_on(async {
        let groups = groups();
        group(&groups, "hangs", |_| Served::Loading(Box::pin(std::future::pending())));
        updated_group(&groups, "updated", |_| Ok(ack(1)));
        node(groups).await
    });
    let ended = Builder::new_current_thread().enable_all().build().unwrap();
    let peer = pool(HttpPool::builder().max_connections(1)).connect(&Member::from(&node.url())).unwrap();
    let (sender, answers) = std_mpsc::channel();
    let entered = ended.enter();
    for key in 0..10 {
        let sender = sender.clone();
        let answered = move |answer: Result<_, _>| sender.send(answer.is_err()).unwrap_or_default();
        peer.get(PeerRequest::new("hangs", key.to_string()), Reply::new(answered));
    }
    drop(entered);
    let handle = ended.handle().clone();
    std::thread::spawn({
        let (peer, sender) = (peer.clone(), sender.clone());
        move || {
            drop(ended);
            // On a runtime that has ended a task is dropped as soon as it is spawned.
            let _entered = handle.enter();
            let answered = move |answer: Result<_, _>| sender.send(answer.is_err()).unwrap_or_default();
            peer.get(PeerRequest::new("hangs", "late"), Reply::new(answered));
            peer.update(PeerUpdate::new("updated", 7, Change::Clear), Duration::from_secs(30), Reply::new(drop));
        }
    });
    drop(sender);
    for nth in 0..11 {
        let failed = answers.recv_timeout(Duration::from_secs(20));
        assert_eq!(failed, Ok(true), "the {nth}th answer");
    }
}

/// 32 connections that claimed a length and sent nothing stopped all bodies over 4 KiB, and one
/// that claimed 20 MiB stopped large values.
#[tokio::test]
async fn bodies_that_are_claimed_and_not_sent_stop_no_others() {
    let groups = groups();
    updated_group(&groups, "updated", |_| Ok(ack(1)));
    let node = node(groups).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        let head = "POST /_peercache/v1/update HTTP/1.1\r\nhost: h\r\npeercache: 1; node=00000000000000ff\r\n\
                    content-length: 20000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Some of it comes, so that its handler waits for the rest.
        stream.write_all(&[0; 8_000]).await.unwrap();
        idle.push(stream);
    }
    let peer = pool(HttpPool::builder()).connect(&Member::from(&node.url())).unwrap();
    for bytes in [100_000, 10 << 20] {
        let stamp = Stamp { incarnation: 1, count: 1 };
        let value = Bytes::from(vec![b'x'; bytes]);
        let set = SetValue::new("k".into(), value, None, stamp, Duration::from_secs(60));
        let update = PeerUpdate::new("updated", 7, Change::Set(set));
        soon(send_update(&peer, update, Duration::from_secs(60))).await.expect("it is acknowledged");
    }
    drop(idle);
}
