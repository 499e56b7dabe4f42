//! A typed group: values are protobuf messages, decoded once at each node and shared from then on.
//!
//! Two nodes run in one process. One loads a value, and the other fetches it over a socket.
use std::{error::Error, sync::Arc};

use peercache::{BoxError, Bytes, Group, LoadError, Node, Source, Value, loader_fn_with};
use prost::Message;
use tokio::net::TcpListener;

/// The type that prost-build would make of a `.proto` file.
#[derive(Clone, PartialEq, Message)]
struct Soldier {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    role: String,
    #[prost(uint32, tag = "3")]
    years_of_service: u32,
}

/// Makes the message a value. Groups hold it in an `Arc`, so that a hit copies a pointer.
impl Value for Soldier {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(self.encode_to_vec().into())
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(<Soldier as Message>::decode(bytes)?)
    }

    fn weight(&self) -> usize {
        self.name.capacity() + self.role.capacity()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listeners = [TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?];
    let mut members = Vec::new();
    for listener in &listeners {
        members.push(format!("http://{}", listener.local_addr()?));
    }

    let (mut nodes, mut groups) = (Vec::new(), Vec::new());
    for (listener, name) in listeners.into_iter().zip(&members) {
        let node = Node::builder(name).members(&members).build()?;
        groups.push(soldiers(&node)?);
        tokio::spawn(node.serve(listener));
        nodes.push(node);
    }

    let view = nodes[0].members().view();
    let elsewhere = (1..).map(|number| format!("小兵{number:04}")).find(|name| view.owner_name(name) == members[1]);
    let name = elsewhere.ok_or("the other node owns no key")?;
    let answer = groups[0].get(&name).detailed().await?;
    println!("node 0 has {:?} from its {:?}", answer.value, answer.source);
    assert_eq!((answer.value.name.as_str(), answer.source), (name.as_str(), Source::Peer));

    let answer = groups[1].get(&name).detailed().await?;
    println!("node 1 has it from its {:?}", answer.source);
    assert_eq!(answer.source, Source::Main);
    Ok(())
}

fn soldiers(node: &Node) -> Result<Group<Arc<Soldier>>, Box<dyn Error>> {
    let load = loader_fn_with((), |(), key| async move {
        let name = key.as_str()?.to_owned();
        let years_of_service = u32::try_from(name.len())?;
        Ok::<_, LoadError>(Arc::new(Soldier { name, role: "列兵".to_owned(), years_of_service }))
    });
    Ok(node.group("soldiers", load).max_bytes(1 << 20).build()?)
}
