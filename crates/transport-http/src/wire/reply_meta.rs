use std::{fmt::Write, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use peercache_groupcache::PeerReply;

use crate::wire::millis;

/// The life of a value beside golang's message, which has no place for it: `peercache-life: age=20; remaining=1500;
/// stale; ring=0123456789abcdef`.
pub(crate) const LIFE: HeaderName = HeaderName::from_static("peercache-life");

/// How many bytes a life has in a frame, the rate not counted. A later version may have more behind them.
pub(crate) const LIFE_BYTES: usize = 1 + 4 + 4 + 8;

/// How many bytes a rate has behind it, if it is known.
pub(crate) const RATE_BYTES: usize = 8;

/// How long an answer holds and how often it is asked for: all of a [`PeerReply`] but the value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Life {
    pub(crate) stale: bool,
    pub(crate) remaining: Option<Duration>,
    pub(crate) age: Duration,
    pub(crate) ring: Option<u64>,
    /// Queries for the key, per second.
    pub(crate) rate: Option<f64>,
}

mod flag {
    pub(super) const STALE: u8 = 1;
    pub(super) const RING: u8 = 2;
    pub(super) const RATE: u8 = 4;
}

impl Life {
    pub(crate) fn of(reply: &PeerReply) -> Self {
        let rate = reply.minute_qps.filter(is_rate);
        Life { stale: reply.stale, remaining: reply.remaining, age: reply.age, ring: reply.ring, rate }
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
        reply.minute_qps = self.rate;
        reply
    }

    pub(crate) fn write(&self, mut out: impl BufMut) {
        let stale = if self.stale { flag::STALE } else { 0 };
        let ring = if self.ring.is_some() { flag::RING } else { 0 };
        out.put_u8(stale | ring | if self.rate.is_some() { flag::RATE } else { 0 });
        out.put_u32(millis::of_bound(self.remaining));
        out.put_u32(millis::of(self.age));
        out.put_u64(self.ring.unwrap_or(0));
        if let Some(rate) = self.rate {
            out.put_f64(rate);
        }
    }

    /// How many bytes it has in a frame.
    pub(crate) fn bytes(&self) -> usize {
        LIFE_BYTES + if self.rate.is_some() { RATE_BYTES } else { 0 }
    }

    /// `None` when it is cut short.
    pub(crate) fn read(mut payload: impl Buf) -> Option<Self> {
        let flags = payload.try_get_u8().ok()?;
        let remaining = millis::to_bound(payload.try_get_u32().ok()?);
        let age = Duration::from_millis(payload.try_get_u32().ok()?.into());
        let ring = Some(payload.try_get_u64().ok()?).filter(|_| flags & flag::RING != 0);
        let rate = payload.try_get_f64().ok().filter(|rate| flags & flag::RATE != 0 && is_rate(rate));
        Some(Life { stale: flags & flag::STALE != 0, remaining, age, ring, rate })
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
        if let Some(rate) = self.rate {
            let _ = write!(text, "; qps={rate}");
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
                ("qps", rate) => life.rate = Some(rate.parse().ok().filter(is_rate)?),
                ("ring", digest) => life.ring = Some(u64::from_str_radix(digest, 16).ok()?),
                _ => {}
            }
        }
        Some(life)
    }
}

/// What is no rate says nothing.
fn is_rate(rate: &f64) -> bool {
    rate.is_finite() && *rate >= 0.0
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A life as it arrives: in whole milliseconds, of at most 32 bits.
    pub(crate) fn any_life() -> impl Strategy<Value = Life> {
        let rate = prop::option::of(0.0..f64::MAX);
        (any::<bool>(), any::<Option<u32>>(), any::<u32>(), any::<Option<u64>>(), rate).prop_map(
            |(stale, remaining, age, ring, rate)| Life {
                stale,
                remaining: remaining.map(|ms| Duration::from_millis(ms.min(u32::MAX - 1).into())),
                age: Duration::from_millis(age.min(u32::MAX - 1).into()),
                ring,
                rate,
            },
        )
    }

    fn header(text: &'static str) -> Option<Life> {
        Life::of_headers(&HeaderMap::from_iter([(LIFE, HeaderValue::from_static(text))]))
    }

    #[test]
    fn a_life_in_a_header() {
        let ms = Duration::from_millis;
        let life = Life { stale: true, remaining: Some(ms(0)), age: ms(20), ring: Some(0xab), rate: Some(1.5) };
        assert_eq!(life.to_header(), "age=20; remaining=0; stale; ring=00000000000000ab; qps=1.5");
        assert_eq!(Life::default().to_header(), "age=0");
    }

    #[test]
    fn a_header_of_a_later_version_is_understood() {
        let life = header("mood=good; remaining=7;warm").unwrap();
        assert_eq!(life, Life { remaining: Some(Duration::from_millis(7)), ..Life::default() });
    }

    #[test]
    fn a_header_that_makes_no_sense_says_nothing() {
        for text in [
            "remaining=",
            "remaining=-1",
            "remaining=4294967296",
            "age=x",
            "ring=",
            "ring=11223344556677889",
            "qps=",
            "qps=-1",
            "qps=inf",
        ] {
            assert_eq!(header(text), None, "{text}");
        }
    }

    #[test]
    fn time_passes_without_overflow() {
        let life = Life { remaining: Some(Duration::from_secs(1)), age: Duration::MAX, ..Life::default() };
        let later = life.after(Duration::from_secs(2));
        assert_eq!((later.remaining, later.age), (Some(Duration::ZERO), Duration::MAX));
    }

    #[test]
    fn what_is_no_rate_says_nothing() {
        for rate in [f64::NAN, f64::INFINITY, -1.0] {
            let mut payload = Vec::new();
            Life { rate: Some(rate), ..Life::default() }.write(&mut payload);
            assert_eq!(Life::read(&payload[..]), Some(Life::default()), "{rate}");
        }
    }

    proptest! {
        #[test]
        fn every_life_comes_back(life in any_life()) {
            let mut payload = Vec::new();
            life.write(&mut payload);
            prop_assert_eq!(payload.len(), life.bytes());
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
