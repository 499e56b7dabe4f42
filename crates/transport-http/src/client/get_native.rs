//! The native get, as it is sent.

use peercache_groupcache::{ErrorKind, PeerReply, ReplyMeta};
use tokio::time::Instant;

use crate::{
    client::batch::{Batch, Outcome, Progress},
    client::connection::Connection,
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    client::request::Request,
    client::response_body::ResponseBody,
    wire::decoder::Decoder,
    wire::error_codes,
    wire::frame::Frame,
    wire::paths::GET_PATH,
};

/// Sends the keys of a batch, and gives each answer as its frame comes. The keys that have no
/// answer when this fails get none.
///
/// `progress` is told how it comes along. Keys whose time is over fail one by one, when the peer is
/// heard next.
pub(super) async fn fetch(
    peer: &PeerState,
    connection: &mut dyn Connection,
    batch: &mut Batch,
    progress: &mut dyn Progress,
) -> Result<(), RequestError> {
    let max_silence = peer.config.peer_timeout;
    let (body, max_value_bytes) = batch.body(max_silence);
    let waiting_since = Instant::now();
    let request = Request::post(GET_PATH, body).max_silence(max_silence);
    request.send(peer, connection).await?.frames_follow()?;
    let body = ResponseBody::new(connection, max_silence);
    let mut answers = Answers { body, decoder: Decoder::of_answers(max_value_bytes), waiting_since, meta: None };
    loop {
        let read = answers.read(|| progress.is_at_work(), |index, outcome| batch.answer(index, outcome)).await;
        // An error behind the last answer does not make that wrong.
        if batch.is_answered() {
            return Ok(());
        }
        read?;
        peer.hear();
        batch.fail_overdue();
        if batch.is_answered() {
            return Err(Failure::GivenUp.into());
        }
        progress.is_at_work();
        progress.still_waits(batch);
    }
}

/// The answers of one batch, as they come.
struct Answers<'a> {
    body: ResponseBody<'a>,
    decoder: Decoder,
    /// The time since which there was nothing to read: the next piece was sent after that.
    waiting_since: Instant,
    /// The facts of the next answer: of which key, and not later than when they were sent.
    meta: Option<(u16, ReplyMeta, Instant)>,
}

impl Answers<'_> {
    /// Reads the next piece and gives the answers that end in it. `answer` returns `false` for a
    /// key that was not asked for, or has its answer.
    async fn read(
        &mut self,
        before_waiting: impl FnOnce(),
        mut answer: impl FnMut(usize, Outcome) -> bool,
    ) -> Result<(), Failure> {
        let Some(mut piece) = self.body.next_or_wait(before_waiting).await? else {
            let is_whole = self.decoder.is_between_frames();
            return Err(Failure::garbage(if is_whole {
                "no answer before the end"
            } else {
                "a frame that is cut short"
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
                Frame::Error { index, code, text } => (index, self.read_error(index, code, &text, now)?),
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

    /// The outcome for a key that has an error.
    ///
    /// # Errors
    /// An error that concerns the peer, and so every key.
    fn read_error(&mut self, index: u16, code: u8, text: &[u8], now: Instant) -> Result<Outcome, Failure> {
        let has_meta = self.meta.is_some_and(|(of, ..)| of == index);
        match error_codes::kind_of_code(code) {
            Some(ErrorKind::NotFound) if has_meta => {
                Ok(Ok(Ok(PeerReply::not_found().meta(self.take_meta(index, now)))))
            }
            Some(kind) => Ok(Ok(Err(error_codes::error_of(kind, text)))),
            None if code == error_codes::UNKNOWN_GROUP => Err(Failure::UnknownGroup(error_codes::text_from(text))),
            None if code == error_codes::IS_SELF => Err(Failure::IsSelf),
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

    use bytes::Bytes;
    use futures_util::{Stream, StreamExt, stream};
    use peercache_groupcache::BoxError;
    use tokio::time::sleep;

    use super::*;
    use crate::client::connection::Step;

    /// A connection whose answer comes in these pieces.
    struct Pieces(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

    impl Connection for Pieces {
        fn connect_ahead(&mut self) -> Step<'_, ()> {
            unreachable!("it is open")
        }

        fn send(&mut self, _: http::Request<Bytes>) -> Step<'_, http::response::Parts> {
            unreachable!("nothing is sent")
        }

        fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
            self.0.poll_next_unpin(cx).map(|piece| piece.map(Ok))
        }

        fn remaining_bytes(&self) -> Option<u64> {
            None
        }

        fn was_reused(&self) -> bool {
            false
        }

        fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    /// Reads frames of which each comes a second after the one before.
    async fn read_slowly(frames: Vec<&'static [u8]>) -> Vec<PeerReply> {
        let pieces = stream::iter(frames).then(|frame| async move {
            sleep(Duration::from_secs(1)).await;
            Bytes::from_static(frame)
        });
        let mut connection = Pieces(Box::pin(pieces));
        let mut answers = Answers {
            body: ResponseBody::new(&mut connection, Duration::from_secs(2)),
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
    /// The facts of an answer that holds for 10 s.
    const LIFE: &[u8] = &[0x81, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const VALUE: &[u8] = &[0x11, 0, 0, 0, 0, 0, 0, 1, b'v'];

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_older_by_its_longest_possible_way() {
        let facts_of = |reply: &PeerReply| (reply.meta.remaining.unwrap().as_secs(), reply.meta.age.as_secs());
        // The peer sent it a second ago at most: before that it was still at work.
        let replies = read_slowly(vec![WORKING, WORKING, WORKING, [LIFE, VALUE].concat().leak()]).await;
        assert_eq!(replies.iter().map(facts_of).collect::<Vec<_>>(), [(9, 1)]);
        // And a second more for a value that came later.
        let replies = read_slowly(vec![WORKING, LIFE, VALUE]).await;
        assert_eq!(replies.iter().map(facts_of).collect::<Vec<_>>(), [(8, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn facts_belong_to_one_answer() {
        let replies = read_slowly(vec![LIFE, VALUE, VALUE]).await;
        assert_eq!(replies.iter().map(|reply| reply.meta.remaining.is_some()).collect::<Vec<_>>(), [true, false]);
    }
}
