//! memcached's text protocol, over connections that callers use one by one.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

use crate::{
    setting::{Setting, key},
    system::System,
};

pub struct Memcached {
    connections: Vec<Mutex<Connection>>,
}

impl Memcached {
    pub async fn connect(setting: &Setting) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..setting.connections_wanted() {
            let stream = TcpStream::connect(setting.server).await?;
            stream.set_nodelay(true)?;
            connections.push(Mutex::new(Connection { stream, received: BytesMut::new() }));
        }
        Ok(Memcached { connections })
    }

    fn connection(&self, caller: usize) -> &Mutex<Connection> {
        &self.connections[caller % self.connections.len()]
    }
}

impl System for Memcached {
    async fn get(&self, caller: usize, key: &str) -> Result<usize> {
        self.get_many(caller, &[key]).await
    }

    async fn get_many(&self, caller: usize, keys: &[&str]) -> Result<usize> {
        let mut connection = self.connection(caller).lock().await;
        connection.send(format!("get {}\r\n", keys.join(" ")).as_bytes()).await?;
        connection.values().await
    }

    async fn fill(&self, setting: &Setting) -> Result<Vec<String>> {
        let value = setting.value();
        let mut connection = self.connection(0).lock().await;
        let keys: Vec<String> = (0..setting.keys).map(key).collect();
        for key in &keys {
            let head = format!("set {key} 0 0 {}\r\n", value.len());
            connection.send(&[head.as_bytes(), &value, b"\r\n"].concat()).await?;
            let answer = connection.line().await?;
            ensure!(answer == "STORED", "memcached answered {answer:?} to a set");
        }
        Ok(keys)
    }

    async fn crossed(&self) -> Result<u64> {
        let mut connection = self.connection(0).lock().await;
        connection.send(b"stats\r\n").await?;
        let mut hits = None;
        loop {
            let line = connection.line().await?;
            if line == "END" {
                return hits.context("memcached counts no hits");
            }
            if let Some(count) = line.strip_prefix("STAT get_hits ") {
                hits = Some(count.parse()?);
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Bytes that have arrived and were not looked at yet.
    received: BytesMut,
}

impl Connection {
    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    async fn receive(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.received).await? > 0, "memcached closed the connection");
        Ok(())
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.received.split_to(end);
                self.received.advance(2);
                return Ok(String::from_utf8(line.to_vec())?);
            }
            self.receive().await?;
        }
    }

    /// The answer to a get: how long its values are together.
    async fn values(&mut self) -> Result<usize> {
        let mut bytes = 0;
        loop {
            let line = self.line().await?;
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["END"] => return Ok(bytes),
                ["VALUE", _, _, length] => bytes += self.value(length.parse()?).await?,
                _ => bail!("memcached answered {line:?} to a get"),
            }
        }
    }

    /// A block of data and the end of its line. It is put together in one piece, as a caller would
    /// want to have it.
    async fn value(&mut self, length: usize) -> Result<usize> {
        self.received.reserve((length + 2).saturating_sub(self.received.len()));
        while self.received.len() < length + 2 {
            self.receive().await?;
        }
        let value = self.received.split_to(length).freeze();
        self.received.advance(2);
        Ok(value.len())
    }
}
