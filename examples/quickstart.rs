//! Loads each role once, however many callers ask for it and however often.
use std::{collections::HashMap, sync::Arc};

use peercache::{LoadError, Node, loader_fn_with};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Stands for a database that is slow to ask.
    let database = Arc::new(HashMap::from([("张三", "班长"), ("李四", "排长"), ("王五", "连长")]));

    // Several processes? Name all with `.members([..])`, and let them ask this one:
    // `tokio::spawn(node.serve(listener))`.
    let node = Node::builder("http://127.0.0.1:9090").build()?;
    let loader = loader_fn_with(database, |database, key| async move {
        println!("loading {key}");
        let role = database.get(key.as_str()?).ok_or_else(LoadError::not_found)?;
        Ok(role.to_string())
    });
    let roles = node.group("personsrole_cache", loader).max_bytes(1 << 20).build()?;

    for name in ["张三", "李四", "张三"] {
        println!("{name} is {}", roles.get(name).await?);
    }
    Ok(())
}
