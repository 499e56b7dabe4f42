//! The facts that go with an answer, as fields of a `LIFE` frame and as a header beside golang's
//! message, which has no place for them.

use std::{fmt::Write, time::Duration};

use bytes::{Buf, BufMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use peercache_groupcache::ReplyMeta;

use crate::wire::millis;

/// The header of a plain answer: `peercache-life: age=20; remaining=1500; stale;
/// ring=0123456789abcdef`.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("peercache-life");

/// The bytes of the fields without a rate. A later version may have more behind them.
pub(crate) const FIELDS_BYTES: usize = 1 + 4 + 4 + 8;

/// The bytes of a rate behind the other fields, if it is known.
const RATE_BYTES: usize = 8;

mod flag {
    pub(super) const STALE: u8 = 1;
    pub(super) const RING: u8 = 2;
    pub(super) const RATE: u8 = 4;
}

/// Whether it says no more than a reader assumes of an answer without it.
pub(crate) fn is_default(meta: &ReplyMeta) -> bool {
    let mut sent = *meta;
    sent.minute_qps = sent.minute_qps.filter(is_rate);
    sent == ReplyMeta::default()
}

/// Writes the fields of a frame.
pub(crate) fn write(meta: &ReplyMeta, mut out: impl BufMut) {
    let rate = meta.minute_qps.filter(is_rate);
    let stale = if meta.stale { flag::STALE } else { 0 };
    let ring = if meta.ring.is_some() { flag::RING } else { 0 };
    out.put_u8(stale | ring | if rate.is_some() { flag::RATE } else { 0 });
    out.put_u32(millis::of_bound(meta.remaining));
    out.put_u32(millis::of(meta.age));
    out.put_u64(meta.ring.unwrap_or(0));
    if let Some(rate) = rate {
        out.put_f64(rate);
    }
}

/// The number of bytes that [`write`] writes.
pub(crate) fn written_bytes(meta: &ReplyMeta) -> usize {
    FIELDS_BYTES + if meta.minute_qps.filter(is_rate).is_some() { RATE_BYTES } else { 0 }
}

/// Reads the fields of a frame; `None` when they are cut short.
pub(crate) fn read(mut fields: impl Buf) -> Option<ReplyMeta> {
    let mut meta = ReplyMeta::default();
    let flags = fields.try_get_u8().ok()?;
    meta.stale = flags & flag::STALE != 0;
    meta.remaining = millis::to_bound(fields.try_get_u32().ok()?);
    meta.age = Duration::from_millis(fields.try_get_u32().ok()?.into());
    meta.ring = Some(fields.try_get_u64().ok()?).filter(|_| flags & flag::RING != 0);
    meta.minute_qps = fields.try_get_f64().ok().filter(|rate| flags & flag::RATE != 0 && is_rate(rate));
    Some(meta)
}

/// The value of the header.
pub(crate) fn to_header(meta: &ReplyMeta) -> HeaderValue {
    let mut text = format!("age={}", millis::of(meta.age));
    // Writing to a string does not fail.
    if let Some(remaining) = meta.remaining {
        let _ = write!(text, "; remaining={}", millis::of(remaining));
    }
    if meta.stale {
        text.push_str("; stale");
    }
    if let Some(ring) = meta.ring {
        let _ = write!(text, "; ring={ring:016x}");
    }
    if let Some(rate) = meta.minute_qps.filter(is_rate) {
        let _ = write!(text, "; qps={rate}");
    }
    HeaderValue::try_from(text).expect("digits and letters make a header value")
}

/// Reads the header; `None` when there is none or it cannot be understood. Unknown parameters are
/// skipped.
pub(crate) fn of_headers(headers: &HeaderMap) -> Option<ReplyMeta> {
    let mut meta = ReplyMeta::default();
    for part in headers.get(HEADER)?.to_str().ok()?.split(';').map(str::trim) {
        match part.split_once('=').unwrap_or((part, "")) {
            ("age", ms) => meta.age = Duration::from_millis(ms.parse::<u32>().ok()?.into()),
            ("remaining", ms) => meta.remaining = Some(Duration::from_millis(ms.parse::<u32>().ok()?.into())),
            ("stale", "") => meta.stale = true,
            ("qps", rate) => meta.minute_qps = Some(rate.parse().ok().filter(is_rate)?),
            ("ring", digest) => meta.ring = Some(u64::from_str_radix(digest, 16).ok()?),
            _ => {}
        }
    }
    Some(meta)
}

/// Whether a number can be a rate. One that cannot is neither sent nor believed.
fn is_rate(rate: &f64) -> bool {
    rate.is_finite() && *rate >= 0.0
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The default with these changes.
    pub(crate) fn meta(change: impl FnOnce(&mut ReplyMeta)) -> ReplyMeta {
        let mut meta = ReplyMeta::default();
        change(&mut meta);
        meta
    }

    /// The facts as they arrive: times in whole milliseconds, of at most 32 bits.
    fn any_meta() -> impl Strategy<Value = ReplyMeta> {
        let rate = prop::option::of(0.0..f64::MAX);
        (any::<bool>(), any::<Option<u32>>(), any::<u32>(), any::<Option<u64>>(), rate).prop_map(
            |(stale, remaining, age, ring, rate)| {
                meta(|meta| {
                    meta.stale = stale;
                    meta.remaining = remaining.map(|ms| Duration::from_millis(ms.min(u32::MAX - 1).into()));
                    meta.age = Duration::from_millis(age.min(u32::MAX - 1).into());
                    (meta.ring, meta.minute_qps) = (ring, rate);
                })
            },
        )
    }

    fn header(text: &'static str) -> Option<ReplyMeta> {
        of_headers(&HeaderMap::from_iter([(HEADER, HeaderValue::from_static(text))]))
    }

    #[test]
    fn all_facts_in_a_header() {
        let all = meta(|meta| {
            (meta.stale, meta.remaining, meta.age) = (true, Some(Duration::ZERO), Duration::from_millis(20));
            (meta.ring, meta.minute_qps) = (Some(0xab), Some(1.5));
        });
        assert_eq!(to_header(&all), "age=20; remaining=0; stale; ring=00000000000000ab; qps=1.5");
        assert_eq!(to_header(&ReplyMeta::default()), "age=0");
    }

    #[test]
    fn a_header_of_a_later_version_is_understood() {
        let expected = meta(|meta| meta.remaining = Some(Duration::from_millis(7)));
        assert_eq!(header("mood=good; remaining=7;warm"), Some(expected));
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
    fn a_number_that_is_no_rate_is_not_sent() {
        for rate in [f64::NAN, f64::INFINITY, -1.0] {
            let strange = meta(|meta| meta.minute_qps = Some(rate));
            let mut fields = Vec::new();
            write(&strange, &mut fields);
            assert_eq!((fields.len(), read(&fields[..])), (FIELDS_BYTES, Some(ReplyMeta::default())), "{rate}");
            assert_eq!((written_bytes(&strange), is_default(&strange)), (FIELDS_BYTES, true), "{rate}");
            assert_eq!(to_header(&strange), "age=0", "{rate}");
        }
    }

    #[test]
    fn a_rate_of_a_peer_that_is_none_is_not_believed() {
        for rate in [f64::NAN, f64::INFINITY, -1.0] {
            let mut fields = vec![flag::RATE, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            fields.put_f64(rate);
            assert_eq!(read(&fields[..]), Some(ReplyMeta::default()), "{rate}");
        }
    }

    proptest! {
        #[test]
        fn all_facts_come_back(meta in any_meta()) {
            let mut fields = Vec::new();
            write(&meta, &mut fields);
            prop_assert_eq!(fields.len(), written_bytes(&meta));
            prop_assert_eq!(read(&fields[..]), Some(meta));
            prop_assert_eq!(of_headers(&HeaderMap::from_iter([(HEADER, to_header(&meta))])), Some(meta));
        }

        #[test]
        fn any_header_is_read_or_refused(text: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                of_headers(&HeaderMap::from_iter([(HEADER, value)]));
            }
        }
    }
}
