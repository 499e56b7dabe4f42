//! The owner of a key, by `peercache-consistenthash` alone: no cache and no network.
//!
//! Say each of your servers holds some of the users' sessions. Every server works out the same
//! owner for a session by itself. When a server is added, only the sessions that it takes over
//! move.
//!
//! ```text
//! cargo run --example ring
//! ```

use peercache_consistenthash::{Error, Table};

fn main() -> Result<(), Error> {
    let mut servers = vec!["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"];
    let table = Table::new(&servers)?;

    for session in ["alice", "bob", "张三"] {
        let line = table.owners(session.as_bytes(), 2);
        println!("{session} is on {}; should it fail, on {}", line[0], line[1]);
    }

    println!();
    for (server, share) in table.names().iter().zip(table.shares()) {
        println!("{server} owns {:.1} % of all sessions", share * 100.0);
    }

    // A table never changes: build the next one beside it and swap.
    servers.push("10.0.0.4:7000");
    let next = Table::new(&servers)?;
    let sessions = || (0..100_000).map(|i| format!("session-{i}"));
    let moved = sessions().filter(|s| table.owner(s.as_bytes()) != next.owner(s.as_bytes())).count();
    println!("\na fourth server takes over {:.1} % of the sessions", moved as f64 / 1000.0);

    // Servers that see different lists notice it by this number.
    println!("list of three {:016x}, list of four {:016x}", table.digest(), next.digest());
    Ok(())
}
