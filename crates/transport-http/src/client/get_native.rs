//! The exchange between our own nodes, asked.

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use peercache_groupcache::{Error, ErrorKind, PeerReply, ReplyMeta};
use tokio::time::{Instant, timeout};

use crate::{
    client::batch::Exchange,
    client::connection::Line,
    client::failure::Failure,
    client::peer::{NoAnswer, Shared},
    client::queue::Gate,
    client::response_body::Chunks,
};
use crate::{
    wire::decoder::Decoder,
    wire::error_codes,
    wire::frame::Frame,
    wire::identity_header::{GET_PATH, Greeting},
};

/// What the peer says of one key: its answer, or something that we do not understand.
pub(super) type Outcome = Result<Result<PeerReply, Error>, Failure>;

/// Sends the keys and gives each answer as its frame comes. What has no answer yet when this fails has none. Others may
/// leave once the head is there and what came with it is read.
pub(super) async fn ask(
    peer: &Shared,
    line: &mut dyn Line,
    exchange: &mut Exchange,
    gate: &mut Gate,
) -> Result<(), NoAnswer> {
    let silence_max = peer.site.peer_timeout;
    let (body, value_bytes_max) = exchange.body(silence_max);
    let waiting_since = Instant::now();
    let head = timeout(silence_max, line.send(post_to(peer, GET_PATH, body)?)).await;
    check_head(peer, &head.map_err(|_| Failure::Silent(silence_max))??)?;
    let chunks = Chunks::new(line, silence_max);
    let mut answers = Answers { chunks, decoder: Decoder::of_answers(value_bytes_max), waiting_since, meta: None };
    loop {
        let read = answers.read(|| gate.open(), |index, answer| exchange.answer(index, answer)).await;
        // What is wrong after the last answer does not make it wrong.
        if exchange.is_answered() {
            return Ok(());
        }
        read?;
        gate.open();
    }
}

pub(super) fn post_to(peer: &Shared, path: &'static str, body: Bytes) -> Result<http::Request<Bytes>, Failure> {
    let (header, greeting) = &peer.site.greeting;
    http::Request::builder()
        .method(Method::POST)
        .uri(Uri::from_static(path))
        .header(header, greeting)
        .body(body)
        .map_err(|error| Failure::Send(error.into()))
}

/// Whether frames follow. A stranger's 200 is no more than its answer to any path.
pub(super) fn check_head(peer: &Shared, head: &http::response::Parts) -> Result<(), Failure> {
    let greeting = Greeting::read(&head.headers);
    match head.status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Err(Failure::PathUnknown(head.status))
        }
        status if status.is_success() && greeting.is_none() => Err(Failure::PathUnknown(status)),
        status => {
            if greeting.is_some() {
                peer.meet(greeting)?;
            }
            match status {
                StatusCode::OK => Ok(()),
                StatusCode::MISDIRECTED_REQUEST if greeting.is_some() => Err(Failure::Myself),
                status => Err(Failure::Status(status)),
            }
        }
    }
}

/// The answers of one exchange, as they come.
struct Answers<'a> {
    chunks: Chunks<'a>,
    decoder: Decoder,
    /// Since when there was nothing to read: what is read next was sent after that.
    waiting_since: Instant,
    /// The facts of the next answer: of which key, and not later than when they were sent.
    meta: Option<(u16, ReplyMeta, Instant)>,
}

impl Answers<'_> {
    /// Reads the next piece and gives the answers that end in it. To be told `false` is to have answered a key that
    /// was not asked for, or once more.
    async fn read(
        &mut self,
        before_waiting: impl FnOnce(),
        mut answer: impl FnMut(usize, Outcome) -> bool,
    ) -> Result<(), Failure> {
        let Some(mut piece) = self.chunks.next_or_wait(before_waiting).await? else {
            return Err(Failure::garbage(match self.decoder.is_between_frames() {
                true => "no answer before the end",
                false => "a frame that is cut short",
            }));
        };
        let now = Instant::now();
        while let Some(frame) = self.decoder.next(&mut piece).map_err(Failure::garbage)? {
            let (index, outcome) = match frame {
                Frame::Working => continue,
                Frame::Life { index, meta } => {
                    self.meta = Some((index, meta, self.waiting_since));
                    continue;
                }
                Frame::Value { index, value } => {
                    (index, Ok(Ok(PeerReply::new(value).meta(self.take_meta(index, now)))))
                }
                Frame::Error { index, code, text } => (index, self.refusal(index, code, &text, now)?),
                _ => return Err(answers_nothing()),
            };
            if !answer(index.into(), outcome) {
                return Err(answers_nothing());
            }
        }
        self.waiting_since = now;
        Ok(())
    }

    /// The facts of this key's answer, which has become older by the longest that it may have been
    /// on its way.
    fn take_meta(&mut self, index: u16, now: Instant) -> ReplyMeta {
        match self.meta.take() {
            Some((of, meta, since)) if of == index => meta.after(now.duration_since(since)),
            _ => ReplyMeta::default(),
        }
    }

    /// What an error says of its key. What it says of the peer is an error here, too.
    fn refusal(&mut self, index: u16, code: u8, text: &[u8], now: Instant) -> Result<Outcome, Failure> {
        let has_meta = self.meta.is_some_and(|(of, ..)| of == index);
        match error_codes::kind_of_code(code) {
            Some(ErrorKind::NotFound) if has_meta => {
                Ok(Ok(Ok(PeerReply::not_found().meta(self.take_meta(index, now)))))
            }
            Some(kind) => Ok(Ok(Err(error_codes::error_of(kind, text)))),
            None if code == error_codes::UNKNOWN_GROUP => Err(Failure::UnknownGroup(error_codes::text_from(text))),
            None if code == error_codes::MYSELF => Err(Failure::Myself),
            None => Ok(Err(Failure::garbage(format!("an error of the unknown code {code}")))),
        }
    }
}

fn answers_nothing() -> Failure {
    Failure::garbage("a frame that answers nothing that was asked")
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use futures_util::{Stream, StreamExt, stream};
    use peercache_groupcache::BoxError;
    use tokio::time::sleep;

    use super::*;
    use crate::client::connection::Step;

    /// A line that brings pieces of its own accord.
    struct Pieces(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

    impl Line for Pieces {
        fn warm(&mut self) -> Step<'_, ()> {
            unreachable!("nobody warms it")
        }

        fn send(&mut self, _: http::Request<Bytes>) -> Step<'_, http::response::Parts> {
            unreachable!("nothing is sent")
        }

        fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
            self.0.poll_next_unpin(cx).map(|piece| piece.map(Ok))
        }

        fn bytes_left(&self) -> Option<u64> {
            None
        }

        fn was_kept(&self) -> bool {
            false
        }

        fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    /// What is read of frames of which each comes a second after the one before.
    async fn read_slowly(frames: Vec<&'static [u8]>) -> Vec<PeerReply> {
        let pieces = stream::iter(frames).then(|frame| async move {
            sleep(Duration::from_secs(1)).await;
            Bytes::from_static(frame)
        });
        let mut line = Pieces(Box::pin(pieces));
        let mut answers = Answers {
            chunks: Chunks::new(&mut line, Duration::from_secs(2)),
            decoder: Decoder::of_answers(10),
            waiting_since: Instant::now(),
            meta: None,
        };
        let mut replies = Vec::new();
        let mut keep = |_, outcome: Outcome| {
            replies.push(outcome.unwrap().unwrap());
            true
        };
        while answers.read(|| (), &mut keep).await.is_ok() {}
        replies
    }

    const WORKING: &[u8] = &[0x80, 0, 0, 0, 0, 0, 0, 0];
    /// Of 10 s.
    const LIFE: &[u8] = &[0x81, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const VALUE: &[u8] = &[0x11, 0, 0, 0, 0, 0, 0, 1, b'v'];

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_older_by_what_it_may_have_been_held_up() {
        let life_of = |reply: &PeerReply| (reply.meta.remaining.unwrap().as_secs(), reply.meta.age.as_secs());
        // Said a second ago at most: before that the peer was still at work.
        let replies = read_slowly(vec![WORKING, WORKING, WORKING, [LIFE, VALUE].concat().leak()]).await;
        assert_eq!(replies.iter().map(life_of).collect::<Vec<_>>(), [(9, 1)]);
        // And a second more for a value that came later.
        let replies = read_slowly(vec![WORKING, LIFE, VALUE]).await;
        assert_eq!(replies.iter().map(life_of).collect::<Vec<_>>(), [(8, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_life_is_of_one_answer() {
        let replies = read_slowly(vec![LIFE, VALUE, VALUE]).await;
        assert_eq!(replies.iter().map(|reply| reply.meta.remaining.is_some()).collect::<Vec<_>>(), [true, false]);
    }
}
