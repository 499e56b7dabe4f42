//! An origin for the example service: it answers every GET with a value of 1,000 bytes.
//!
//! In this process, and as plain as HTTP can be: what is measured is the service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

pub const VALUE_BYTES: usize = 1_000;

/// Longest line of a request that is read; the service's are far shorter.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// Starts it on a free port; it serves until this process ends.
pub fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for the service's loads")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // One that breaks off is the service's concern.
            thread::spawn(move || drop(serve(&stream)));
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(target) = request(&mut reader)? {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {VALUE_BYTES}\r\n\r\n");
        let mut writer = stream;
        writer.write_all(&[head.as_bytes(), &value(&target)].concat())?;
    }
    Ok(())
}

/// The target of the next request, whose head is read to its end; a GET has no body. `None` if the
/// connection has ended.
fn request(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut first = String::new();
    reader.by_ref().take(MAX_LINE_BYTES).read_line(&mut first)?;
    let mut line = String::new();
    while !matches!(line.as_str(), "\r\n" | "\n") {
        line.clear();
        if reader.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(first.split(' ').nth(1).unwrap_or_default().to_owned()))
}

/// A different one for each key.
fn value(target: &str) -> Vec<u8> {
    target.bytes().chain([b' ']).cycle().take(VALUE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;
    use crate::ports;

    #[test]
    fn every_key_has_a_value_of_its_own_size_and_content() {
        let origin = ports::url(start().unwrap().port());
        let get = |key: &str| Client::new().get(&format!("{origin}/value?key={key}")).unwrap().body;
        assert_eq!(get("a").len(), VALUE_BYTES);
        assert_ne!(get("a"), get("b"));
    }
}
