//! The addresses at which a node serves its peers.

use std::{future::pending, io::ErrorKind, time::Duration};

use peercache::{Node, Server, listen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SECRET: &str = "the first secret, of more than 32 bytes";

/// A node whose URL others could reach.
fn node() -> peercache::NodeBuilder {
    Node::builder("http://192.0.2.1:9090")
}

#[tokio::test]
async fn a_node_serves_nobody_beyond_its_machine_unless_something_says_who_may_speak() {
    for (what, node, is_served) in [
        ("alone", Node::alone(), false),
        ("a list of one", node().build().unwrap(), false),
        ("a secret", node().secret(SECRET).build().unwrap(), true),
        ("a network that is trusted", node().trust_network().build().unwrap(), true),
    ] {
        let listener = listen("0.0.0.0:0").await.unwrap();
        assert_eq!(node.check_listener(listener.local_addr().unwrap()).is_ok(), is_served, "{what}");
        node.shutdown();
        match tokio::time::timeout(Duration::from_secs(60), node.serve(listener)).await.unwrap() {
            Ok(()) => assert!(is_served, "{what}"),
            Err(error) => {
                assert!(!is_served && error.kind() == ErrorKind::PermissionDenied, "{what}: {error}");
                let sentence = error.to_string();
                assert!(sentence.contains("`secret`") && sentence.contains("`trust_network`"), "{sentence}");
            }
        }
        node.check_listener("127.0.0.1:1".parse().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_server_of_ones_own_serves_the_nodes_listener() {
    let node = node().secret(SECRET).build().unwrap();
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new(node.router()).serve(node.listener(listener).unwrap(), pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /_groupcache/g/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
