//! The exchange between our own nodes, asked.

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use peercache_groupcache::{Error, ErrorKind, PeerReply, PeerRequest};
use tokio::time::{Instant, timeout};

use super::{
    chunks::Chunks,
    failure::Failure,
    many::Exchange,
    peer::{Answer, NoAnswer, Shared},
};
use crate::{
    answer,
    decoder::Decoder,
    frame::{self, Ask, Frame},
    greeting::{GET_PATH, Greeting},
    life::Life,
};

/// What the peer says of one key: its answer, or something that we do not understand.
pub(super) type Outcome = Result<Result<PeerReply, Error>, Failure>;

/// Sends the key and reads frames until its answer is there.
pub(super) async fn ask(peer: &Shared, request: &PeerRequest) -> Result<Answer, NoAnswer> {
    if request.key.len() > peer.site.key_bytes_max {
        return Err(NoAnswer::NotCarried);
    }
    let mut answers = send(peer, request, &[request.key.as_bytes()]).await?;
    let mut outcome = None;
    loop {
        let read = answers.read(|index, answer| take(&mut outcome, index, answer)).await;
        // What is wrong after the answer does not make it wrong.
        match outcome {
            Some(outcome) => return Ok(Answer { outcome: outcome?, rest: answers.chunks }),
            None => read?,
        }
    }
}

fn take(outcome: &mut Option<Outcome>, index: usize, answer: Outcome) -> bool {
    let asked = index == 0 && outcome.is_none();
    if asked {
        *outcome = Some(answer);
    }
    asked
}

/// Sends the keys and gives each answer as its frame comes. What has no answer yet when this fails has none.
pub(super) async fn ask_many(peer: &Shared, exchange: &mut Exchange) -> Result<Chunks, NoAnswer> {
    let mut answers = {
        let request = exchange.request();
        send(peer, &request, &exchange.keys()).await?
    };
    while !exchange.is_answered() {
        let read = answers.read(|index, answer| exchange.answer(peer, index, answer)).await;
        if !exchange.is_answered() {
            read?;
        }
    }
    Ok(answers.chunks)
}

async fn send(peer: &Shared, request: &PeerRequest, keys: &[&[u8]]) -> Result<Answers, Failure> {
    let silence_max = peer.site.peer_timeout;
    let sent = Instant::now();
    let head = timeout(silence_max, peer.site.exchange.send(post(peer, request, keys)?)).await;
    let (head, body) = head.map_err(|_| Failure::Silent(silence_max))??.into_parts();
    check_head(peer, &head)?;
    Ok(Answers {
        chunks: Chunks::new(body, silence_max),
        decoder: Decoder::of_answers(request.value_bytes_max),
        waiting_since: sent,
        life: None,
    })
}

fn post(peer: &Shared, request: &PeerRequest, keys: &[&[u8]]) -> Result<http::Request<Bytes>, Failure> {
    let ask = Ask {
        // The bound is checked when the pool is built to fit in 32 bits.
        silence_ms: peer.site.peer_timeout.as_millis() as u32,
        timeout: request.terms.timeout,
        fresh: request.terms.fresh,
    };
    post_to(peer, GET_PATH, frame::request(ask, request.value_bytes_max as u64, &request.group, keys))
}

pub(super) fn post_to(peer: &Shared, path: &str, body: Bytes) -> Result<http::Request<Bytes>, Failure> {
    let (header, greeting) = &peer.site.greeting;
    http::Request::builder()
        .method(Method::POST)
        .uri(Uri::try_from(format!("{}{path}", peer.name)).map_err(|error| Failure::Send(error.into()))?)
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
struct Answers {
    chunks: Chunks,
    decoder: Decoder,
    /// Since when there was nothing to read: what is read next was sent after that.
    waiting_since: Instant,
    /// What was said last of how long an answer holds, of which key, and not after which moment.
    life: Option<(usize, Life, Instant)>,
}

impl Answers {
    /// Reads the next piece and gives the answers that end in it. To be told `false` is to have answered a key that
    /// was not asked for, or once more.
    async fn read(&mut self, mut answer: impl FnMut(usize, Outcome) -> bool) -> Result<(), Failure> {
        let Some(mut piece) = self.chunks.next().await? else {
            return Err(Failure::garbage(match self.decoder.is_between_frames() {
                true => "no answer before the end",
                false => "a frame that is cut short",
            }));
        };
        while let Some(frame) = self.decoder.next(&mut piece).map_err(Failure::garbage)? {
            let (index, outcome) = match frame {
                Frame::Working => continue,
                Frame::Life { index, life } => {
                    self.life = Some((index.into(), life, self.waiting_since));
                    continue;
                }
                Frame::Value { index, value } => (index, Ok(Ok(self.reply(index, Some(value))))),
                Frame::Error { index, code, text } => (index, self.refusal(index, code, &text)?),
                _ => return Err(answers_nothing()),
            };
            if !answer(index.into(), outcome) {
                return Err(answers_nothing());
            }
        }
        self.waiting_since = Instant::now();
        Ok(())
    }

    /// The reply of a key. It has become older on its way, by what we may have been held up at most.
    fn reply(&mut self, index: u16, value: Option<Bytes>) -> PeerReply {
        match self.life.take() {
            Some((of, life, since)) if of == usize::from(index) => life.after(since.elapsed()).reply(value),
            _ => Life::default().reply(value),
        }
    }

    /// What an error says of its key. What it says of the peer is an error here, too.
    fn refusal(&mut self, index: u16, code: u8, text: &[u8]) -> Result<Outcome, Failure> {
        let has_life = self.life.is_some_and(|(of, ..)| of == usize::from(index));
        match answer::kind_of_code(code) {
            Some(ErrorKind::NotFound) if has_life => Ok(Ok(Ok(self.reply(index, None)))),
            Some(kind) => Ok(Ok(Err(answer::error_of(kind, text)))),
            None if code == answer::UNKNOWN_GROUP => Err(Failure::UnknownGroup(answer::text_from(text))),
            None if code == answer::MYSELF => Err(Failure::Myself),
            None => Ok(Err(Failure::garbage(format!("an error of the unknown code {code}")))),
        }
    }
}

fn answers_nothing() -> Failure {
    Failure::garbage("a frame that answers nothing that was asked")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use peercache_groupcache::BoxError;
    use tokio::time::sleep;

    use super::*;

    /// What is read of frames of which each comes a second after the one before.
    async fn read_slowly(frames: Vec<&'static [u8]>) -> Vec<PeerReply> {
        let frames = stream::iter(frames);
        let pieces = futures_util::StreamExt::then(frames, |frame| async move {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(frame)))
        });
        let mut answers = Answers {
            chunks: Chunks::new(StreamBody::new(pieces).boxed_unsync(), Duration::from_secs(2)),
            decoder: Decoder::of_answers(10),
            waiting_since: Instant::now(),
            life: None,
        };
        let mut replies = Vec::new();
        let mut keep = |_, outcome: Outcome| {
            replies.push(outcome.unwrap().unwrap());
            true
        };
        while answers.read(&mut keep).await.is_ok() {}
        replies
    }

    const WORKING: &[u8] = &[0x80, 0, 0, 0, 0, 0, 0, 0];
    /// Of 10 s.
    const LIFE: &[u8] = &[0x81, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const VALUE: &[u8] = &[0x11, 0, 0, 0, 0, 0, 0, 1, b'v'];

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_older_by_what_it_may_have_been_held_up() {
        let life_of = |reply: &PeerReply| (reply.remaining.unwrap().as_secs(), reply.age.as_secs());
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
        assert_eq!(replies.iter().map(|reply| reply.remaining.is_some()).collect::<Vec<_>>(), [true, false]);
    }
}
