//! A link to a node that can be stopped, cut, or blocked at one message.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A proxy in front of a node, on which things can go wrong.
pub struct Link {
    pub name: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: watch::Sender<State>,
    /// The bytes that a connection must not carry: it is held up before them.
    snag: Mutex<Option<Vec<u8>>>,
    /// The number of connections that were held up and have ended.
    snagged: watch::Sender<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Connections are accepted and nothing is carried, as with a stopped process. It arrives
    /// later.
    Stopped,
    /// Connections end, and bytes on their way are lost.
    Cut,
}

impl Link {
    /// Starts a link to the node at `address`.
    pub async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link { name: super::name_of(&listener), shared: Arc::default() };
        let shared = link.shared.clone();
        tokio::spawn(async move {
            while let Ok((asker, _)) = listener.accept().await {
                tokio::spawn(shared.clone().connect(asker, address));
            }
        });
        link
    }

    pub fn stop(&self) {
        self.shared.state.send_replace(State::Stopped);
    }

    pub fn cut(&self) {
        self.shared.state.send_replace(State::Cut);
    }

    /// Holds up the one connection that is to carry `what` to the node, until the link is open
    /// again.
    pub fn snag(&self, what: &[u8]) {
        *self.shared.snag.lock().unwrap() = Some(what.to_vec());
    }

    /// Lets all bytes go on that are not lost.
    pub fn open(&self) {
        *self.shared.snag.lock().unwrap() = None;
        self.shared.state.send_replace(State::Open);
    }

    /// Waits until a connection that was held up has carried everything.
    pub async fn snagged(&self) {
        self.shared.snagged.subscribe().wait_for(|&snagged| snagged > 0).await.unwrap();
    }
}

impl Shared {
    async fn connect(self: Arc<Self>, asker: TcpStream, address: SocketAddr) {
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            _ = state.wait_for(|&state| state == State::Cut) => {}
            () = self.carry_both_ways(asker, address) => {}
        }
    }

    async fn carry_both_ways(&self, asker: TcpStream, address: SocketAddr) {
        let node = TcpStream::connect(address).await.unwrap();
        let ((asks, answered), (asked, answers)) = (asker.into_split(), node.into_split());
        let (was_snagged, _) = tokio::join!(self.carry(asks, answers), self.carry(asked, answered));
        if was_snagged {
            self.snagged.send_modify(|snagged| *snagged += 1);
        }
    }

    /// Carries bytes one way, and says whether they were held up.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> bool {
        let (mut piece, mut was_snagged) = (vec![0; 64 << 10], false);
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            self.flows().await;
            if self.is_snag(&piece[..count]) {
                was_snagged = true;
                while self.is_snag(&piece[..count]) {
                    tokio::task::yield_now().await;
                }
            }
            if to.write_all(&piece[..count]).await.is_err() {
                return was_snagged;
            }
        }
        self.flows().await;
        let _ = to.shutdown().await;
        was_snagged
    }

    async fn flows(&self) {
        let _ = self.state.subscribe().wait_for(|&state| state != State::Stopped).await;
    }

    fn is_snag(&self, piece: &[u8]) -> bool {
        let snag = self.snag.lock().unwrap();
        snag.as_ref().is_some_and(|snag| piece.windows(snag.len()).any(|window| window == snag))
    }
}
