use std::{fmt::Write, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use peercache_groupcache::PeerReply;

use crate::millis;

/// The life of a value beside golang's message, which has no place for it: `peercache-life: age=20; remaining=1500;
/// stale; ring=0123456789abcdef`.
pub(crate) const LIFE: HeaderName = HeaderName::from_static("peercache-life");

/// How many bytes a life has in a frame. A later version may have more behind them.
pub(crate) const LIFE_BYTES: usize = 1 + 4 + 4 + 8;

/// How long an answer holds: all of a [`PeerReply`] but the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) stale: bool,
    pub(crate) remaining: Option<Duration>,
    pub(crate) age: Duration,
    pub(crate) ring: Option<u64>,
}

mod flag {
    pub(super) const STALE: u8 = 1;
    pub(super) const RING: u8 = 2;
}

impl Life {
    pub(crate) fn of(reply: &PeerReply) -> Self {
        Life { stale: reply.stale, remaining: reply.remaining, age: reply.age, ring: reply.ring }
    }

    /// Whether it says what is believed of a value anyway.
    pub(crate) fn goes_without_saying(&self) -> bool {
        *self == Life::default()
    }

    /// The same answer, so much later.
    pub(crate) fn after(self, passed: Duration) -> Self {
        let remaining = self.remaining.map(|remaining| remaining.saturating_sub(passed));
        Life { remaining, age: self.age.saturating_add(passed), ..self }
    }

    /// The reply that has this life; no value is a "not found" that may be cached.
    pub(crate) fn reply(self, value: Option<Bytes>) -> PeerReply {
        let mut reply = value.map_or_else(PeerReply::not_found, PeerReply::new);
        (reply.stale, reply.remaining, reply.age, reply.ring) = (self.stale, self.remaining, self.age, self.ring);
        reply
    }

    pub(crate) fn write(&self, mut out: impl BufMut) {
        let stale = if self.stale { flag::STALE } else { 0 };
        out.put_u8(stale | if self.ring.is_some() { flag::RING } else { 0 });
        out.put_u32(millis::of_bound(self.remaining));
        out.put_u32(millis::of(self.age));
        out.put_u64(self.ring.unwrap_or(0));
    }

    /// `None` when it is cut short.
    pub(crate) fn read(mut payload: impl Buf) -> Option<Self> {
        let flags = payload.try_get_u8().ok()?;
        let remaining = millis::to_bound(payload.try_get_u32().ok()?);
        let age = Duration::from_millis(payload.try_get_u32().ok()?.into());
        let ring = payload.try_get_u64().ok()?;
        Some(Life { stale: flags & flag::STALE != 0, remaining, age, ring: (flags & flag::RING != 0).then_some(ring) })
    }

    pub(crate) fn to_header(self) -> HeaderValue {
        let mut text = format!("age={}", millis::of(self.age));
        // Writing to a string does not fail.
        if let Some(remaining) = self.remaining {
            let _ = write!(text, "; remaining={}", millis::of(remaining));
        }
        if self.stale {
            text.push_str("; stale");
        }
        if let Some(ring) = self.ring {
            let _ = write!(text, "; ring={ring:016x}");
        }
        HeaderValue::try_from(text).expect("digits and letters make a header value")
    }

    /// What these headers say; `None` when they say nothing that can be understood. Parameters that we do not know are
    /// passed over.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut life = Life::default();
        for part in headers.get(LIFE)?.to_str().ok()?.split(';').map(str::trim) {
            match part.split_once('=').unwrap_or((part, "")) {
                ("age", ms) => life.age = Duration::from_millis(ms.parse::<u32>().ok()?.into()),
                ("remaining", ms) => life.remaining = Some(Duration::from_millis(ms.parse::<u32>().ok()?.into())),
                ("stale", "") => life.stale = true,
                ("ring", digest) => life.ring = Some(u64::from_str_radix(digest, 16).ok()?),
                _ => {}
            }
        }
        Some(life)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A life as it arrives: in whole milliseconds, of at most 32 bits.
    pub(crate) fn any_life() -> impl Strategy<Value = Life> {
        (any::<bool>(), any::<Option<u32>>(), any::<u32>(), any::<Option<u64>>()).prop_map(
            |(stale, remaining, age, ring)| Life {
                stale,
                remaining: remaining.map(|ms| Duration::from_millis(ms.min(u32::MAX - 1).into())),
                age: Duration::from_millis(age.min(u32::MAX - 1).into()),
                ring,
            },
        )
    }

    fn header(text: &'static str) -> Option<Life> {
        Life::of_headers(&HeaderMap::from_iter([(LIFE, HeaderValue::from_static(text))]))
    }

    #[test]
    fn a_life_in_a_header() {
        let ms = Duration::from_millis;
        let life = Life { stale: true, remaining: Some(ms(0)), age: ms(20), ring: Some(0xab) };
        assert_eq!(life.to_header(), "age=20; remaining=0; stale; ring=00000000000000ab");
        assert_eq!(Life::default().to_header(), "age=0");
    }

    #[test]
    fn a_header_of_a_later_version_is_understood() {
        let life = header("mood=good; remaining=7;warm").unwrap();
        assert_eq!(life, Life { remaining: Some(Duration::from_millis(7)), ..Life::default() });
    }

    #[test]
    fn a_header_that_makes_no_sense_says_nothing() {
        for text in ["remaining=", "remaining=-1", "remaining=4294967296", "age=x", "ring=", "ring=11223344556677889"] {
            assert_eq!(header(text), None, "{text}");
        }
    }

    #[test]
    fn time_passes_without_overflow() {
        let life = Life { remaining: Some(Duration::from_secs(1)), age: Duration::MAX, ..Life::default() };
        let later = life.after(Duration::from_secs(2));
        assert_eq!((later.remaining, later.age), (Some(Duration::ZERO), Duration::MAX));
    }

    proptest! {
        #[test]
        fn every_life_comes_back(life in any_life()) {
            let mut payload = Vec::new();
            life.write(&mut payload);
            prop_assert_eq!(payload.len(), LIFE_BYTES);
            prop_assert_eq!(Life::read(&payload[..]), Some(life));
            prop_assert_eq!(Life::of_headers(&HeaderMap::from_iter([(LIFE, life.to_header())])), Some(life));
        }

        #[test]
        fn any_header_is_read_or_refused(text: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                Life::of_headers(&HeaderMap::from_iter([(LIFE, value)]));
            }
        }
    }
}
