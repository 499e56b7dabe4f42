//! The body of an update.

use bytes::{BufMut, Bytes};
use peercache_groupcache::{Change, Key, Members, PeerUpdate, SecondRound, SetValue};

use crate::{
    wire::decoder::Decoder,
    wire::frame::{self, Frame, HEADER_BYTES, MAX_KEYS, MAX_NAME_BYTES, SECOND_ROUND_BYTES, header, kind},
    wire::millis,
};

/// The most bytes that the names of one update have together.
pub(crate) const MAX_NAMES_BYTES: usize = 128 * 1024;

mod change {
    pub(super) const REMOVE: u8 = 1;
    pub(super) const CLEAR: u8 = 2;
    pub(super) const SET: u8 = 3;
}

/// The longest body, in bytes, its value not counted.
pub(crate) fn max_bytes(max_key_bytes: usize) -> usize {
    frame::max_request_bytes(max_key_bytes).saturating_add(MAX_NAMES_BYTES + Members::MAX * HEADER_BYTES)
}

/// The update as requests that a member takes, one after another. `None` when it cannot be sent: a
/// key, a value or the names are too long.
pub(crate) fn parts(update: PeerUpdate, max_key_bytes: usize) -> Option<Vec<PeerUpdate>> {
    let names_fit = update.missed.len() <= Members::MAX
        && update.missed.iter().all(|name| name.len() <= MAX_NAME_BYTES)
        && update.missed.iter().map(String::len).sum::<usize>() <= MAX_NAMES_BYTES;
    let change_fits = match &update.change {
        Change::Remove(keys) => keys.iter().all(|key| key.len() <= max_key_bytes),
        Change::Set(set) => set.key.len() <= max_key_bytes && u32::try_from(set.value.len()).is_ok(),
        Change::Clear => true,
        _ => false,
    };
    if !names_fit || !change_fits {
        return None;
    }
    let Change::Remove(keys) = &update.change else {
        return Some(vec![update]);
    };
    let mut rest = &keys[..];
    let mut parts = Vec::new();
    // An update without keys is sent, too.
    while !rest.is_empty() || parts.is_empty() {
        let (part, later) = rest.split_at(frame::keys_of_one_batch(rest.iter().map(Key::len)));
        let change = Change::Remove(part.to_vec());
        let part = PeerUpdate::new(update.group.clone(), update.ring, change);
        parts.push(part.missed(update.missed.clone()).age(update.age).second(update.second));
        rest = later;
    }
    Some(parts)
}

/// The body of a request, for an update of [`parts`].
pub(crate) fn body(update: &PeerUpdate) -> Bytes {
    let change = match &update.change {
        Change::Remove(_) => change::REMOVE,
        Change::Set(_) => change::SET,
        // There is no other in a part.
        _ => change::CLEAR,
    };
    let mut body = Vec::with_capacity(bytes_of(update));
    let second_bytes = if update.second.is_some() { SECOND_ROUND_BYTES } else { 0 };
    body.extend(header(kind::UPDATE, 0, 14 + second_bytes as u32));
    body.put_u8(change);
    body.put_u64(update.ring);
    body.put_u32(millis::of(update.age));
    body.put_u8(update.second.is_some().into());
    if let Some(SecondRound { stamp, within }) = update.second {
        body.put_u64(stamp.incarnation);
        body.put_u64(stamp.count);
        body.put_u32(millis::of(within));
    }
    frame::write_group(&mut body, 0, &update.group);
    for name in &update.missed {
        body.extend(header(kind::MISSED, 0, name.len() as u32));
        body.extend(name.as_bytes());
    }
    match &update.change {
        Change::Remove(keys) => frame::write_keys(&mut body, keys.iter().map(Key::as_bytes)),
        Change::Set(set) => write_set(&mut body, set),
        _ => {}
    }
    body.into()
}

/// The size of the body, or a little more: a value is large, and copied once is enough.
fn bytes_of(update: &PeerUpdate) -> usize {
    let names: usize = update.missed.iter().map(|name| HEADER_BYTES + name.len()).sum();
    let change = match &update.change {
        Change::Remove(keys) => keys.iter().map(|key| HEADER_BYTES + key.len()).sum(),
        Change::Set(set) => 128 + set.key.len() + set.value.len(),
        _ => 0,
    };
    128 + update.group.len() + names + change
}

fn write_set(body: &mut Vec<u8>, set: &SetValue) {
    body.extend(header(kind::SET, 0, 24));
    body.put_u64(set.stamp.incarnation);
    body.put_u64(set.stamp.count);
    body.put_u32(millis::of(set.within));
    body.put_u32(millis::of_bound(set.ttl));
    frame::write_keys(body, [set.key.as_bytes()]);
    body.extend(frame::value_header(0, set.value.len() as u32));
    body.extend(&set.value[..]);
}

/// Reads a body; `None` when it is no update.
pub(crate) fn read(mut body: Bytes, max_key_bytes: usize) -> Option<PeerUpdate> {
    // A value is no longer than the body that it is in, whatever it claims.
    let mut decoder = Decoder::of_updates(max_key_bytes, body.len());
    let mut next = || decoder.next(&mut body).ok();
    let (Frame::Update { change, ring, age, second }, Frame::Group { name, .. }) = (next()??, next()??) else {
        return None;
    };
    let group = std::str::from_utf8(&name).ok()?;
    let (missed, mut frame) = read_missed(&mut next)?;
    let change = match change {
        change::REMOVE => {
            let mut keys = Vec::new();
            while let Some(Frame::Key { index, key }) = frame {
                if usize::from(index) != keys.len() || keys.len() == MAX_KEYS {
                    return None;
                }
                keys.push(Key::copy_from(&key));
                frame = next()?;
            }
            Change::Remove(keys)
        }
        change::CLEAR => Change::Clear,
        change::SET => {
            let (Frame::Set { stamp, within, ttl }, Frame::Key { index: 0, key }, Frame::Value { index: 0, value }) =
                (frame?, next()??, next()??)
            else {
                return None;
            };
            frame = next()?;
            Change::Set(SetValue::new(Key::copy_from(&key), unpinned(value), ttl, stamp, within))
        }
        _ => return None,
    };
    let ended = frame.is_none() && decoder.is_between_frames() && body.is_empty();
    ended.then(|| PeerUpdate::new(group, ring, change).missed(missed).age(age).second(second))
}

/// The value, copied if it is short, so that it keeps no much larger buffer alive.
fn unpinned(value: Bytes) -> Bytes {
    /// The longest value that is copied. A buffer that was read into is not many times larger.
    const MAX_COPIED_BYTES: usize = 64 * 1024;
    if value.len() <= MAX_COPIED_BYTES { Bytes::copy_from_slice(&value) } else { value }
}

/// Reads the names of missed members, and the frame after them.
fn read_missed(next: &mut impl FnMut() -> Option<Option<Frame>>) -> Option<(Vec<String>, Option<Frame>)> {
    let mut missed = Vec::new();
    loop {
        match next()? {
            Some(Frame::Missed { name }) if missed.len() < Members::MAX => {
                missed.push(std::str::from_utf8(&name).ok()?.to_owned());
            }
            Some(Frame::Missed { .. }) => return None,
            frame => return Some((missed, frame)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peercache_groupcache::Stamp;
    use proptest::prelude::*;

    use super::*;

    fn read_all(body: Bytes) -> Option<PeerUpdate> {
        read(body, 100)
    }

    #[test]
    fn a_removal_on_the_wire() {
        let update = PeerUpdate::new("g", 0x0123_4567_89ab_cdef, Change::Remove(vec!["k".into(), "".into()]))
            .missed(vec!["http://b:1".to_owned()]);
        let golden = [
            &[0x04, 0, 0, 0, 0, 0, 0, 14, 1, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, 0, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, b'g'],
            &[0x05, 0, 0, 0, 0, 0, 0, 10],
            b"http://b:1",
            &[0x03, 0, 0, 0, 0, 0, 0, 1, b'k'],
            &[0x03, 0, 0, 1, 0, 0, 0, 0],
        ];
        assert_eq!(body(&update), golden.concat());
        assert_eq!(read_all(body(&update)), Some(update));
    }

    #[test]
    fn the_second_round_of_a_set_on_the_wire() {
        let stamp = Stamp { incarnation: 2, count: 3 };
        let second = SecondRound { stamp, within: Duration::from_millis(250) };
        let update = PeerUpdate::new("g", 1, Change::Remove(vec!["k".into()])).second(Some(second));
        let golden = [
            &[0x04, 0, 0, 0, 0, 0, 0, 34, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1][..],
            &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 250],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, b'g'],
            &[0x03, 0, 0, 0, 0, 0, 0, 1, b'k'],
        ];
        assert_eq!(body(&update), golden.concat());
        assert_eq!(read_all(body(&update)), Some(update));
        // An earlier release says only that it is the second.
        let mut earlier = golden[0].to_vec();
        earlier[7] = 14;
        let earlier = [&earlier, golden[2], golden[3]].concat();
        assert_eq!(read_all(earlier.into()).map(|update| update.second), Some(None));
    }

    #[test]
    fn a_clear_on_the_wire() {
        let update = PeerUpdate::new("g", 1, Change::Clear);
        let golden = [
            &[0x04, 0, 0, 0, 0, 0, 0, 14, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, b'g'],
        ];
        assert_eq!(body(&update), golden.concat());
        assert_eq!(read_all(body(&update)), Some(update));
    }

    #[test]
    fn a_set_on_the_wire() {
        let stamp = Stamp { incarnation: 2, count: 3 };
        let set = SetValue::new("k".into(), "v".into(), None, stamp, Duration::from_millis(1_000));
        let update = PeerUpdate::new("g", 1, Change::Set(set));
        let golden = [
            &[0x04, 0, 0, 0, 0, 0, 0, 14, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, b'g'],
            &[0x06, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0x03, 0xe8, 0xff, 0xff, 0xff, 0xff],
            &[0x03, 0, 0, 0, 0, 0, 0, 1, b'k'],
            &[0x11, 0, 0, 0, 0, 0, 0, 1, b'v'],
        ];
        assert_eq!(body(&update), golden.concat());
        assert_eq!(read_all(body(&update)), Some(update));
    }

    fn remove(count: usize, length: usize) -> PeerUpdate {
        PeerUpdate::new("g", 1, Change::Remove(vec![vec![b'k'; length].into(); count]))
    }

    /// The number of keys in each part of a removal.
    fn split(count: usize, length: usize) -> Option<Vec<usize>> {
        let keys = |part: PeerUpdate| match part.change {
            Change::Remove(keys) => keys.len(),
            _ => unreachable!("a removal stays one"),
        };
        Some(parts(remove(count, length), 65_536)?.into_iter().map(keys).collect())
    }

    #[test]
    fn a_large_removal_is_sent_in_parts() {
        assert_eq!(split(0, 1), Some(vec![0]));
        assert_eq!(split(2_050, 1), Some(vec![1_024, 1_024, 2]));
        assert_eq!(split(3, 65_536), Some(vec![1, 1, 1]));
        assert_eq!(split(1, 65_537), None);
        for part in parts(remove(5_000, 60), 65_536).unwrap() {
            assert!(body(&part).len() <= max_bytes(65_536));
            assert_eq!(read(body(&part), 65_536), Some(part));
        }
    }

    #[test]
    fn names_are_sent_all_or_not_at_all() {
        let is_sent = |names: Vec<String>| parts(PeerUpdate::new("g", 1, Change::Clear).missed(names), 100).is_some();
        assert!(is_sent(vec!["n".repeat(131); Members::MAX]) && !is_sent(vec!["n".repeat(132); Members::MAX]));
        assert!(is_sent(vec!["n".repeat(1_024)]) && !is_sent(vec!["n".repeat(1_025)]));
        assert!(is_sent(vec![String::new(); Members::MAX]) && !is_sent(vec![String::new(); Members::MAX + 1]));
        let most = PeerUpdate::new("g", 1, Change::Clear).missed(vec!["n".repeat(131); Members::MAX]);
        assert!(body(&most).len() <= max_bytes(0));
        assert_eq!(read_all(body(&most)), Some(most));
    }

    #[test]
    fn a_body_that_is_no_update_is_refused() {
        let good = body(&remove(2, 1));
        let cut = (0..good.len()).filter(|end| read_all(good.slice(..*end)).is_some());
        // A removal of fewer keys is one, too.
        assert_eq!(cut.collect::<Vec<_>>(), [39, 48]);
        let twice = [&good[..], &good].concat();
        assert_eq!(read_all(twice.into()), None);
        let mut unknown = good.to_vec();
        unknown[8] = 4;
        assert_eq!(read_all(unknown.into()), None);
        let mut too_many = good.to_vec();
        too_many.truncate(39);
        (0..=MAX_KEYS as u16).for_each(|index| too_many.extend(header(kind::KEY, index, 0)));
        assert_eq!(read_all(too_many.clone().into()), None);
        too_many.truncate(too_many.len() - HEADER_BYTES);
        assert!(read_all(too_many.into()).is_some());
        let nameless = PeerUpdate::new("g", 1, Change::Clear).missed(vec![String::new(); Members::MAX + 1]);
        assert_eq!(read_all(body(&nameless)), None);
    }

    #[test]
    fn an_update_that_is_sent_late_says_so() {
        let update = PeerUpdate::new("g", 1, Change::Clear).age(Duration::from_millis(1_500));
        let golden = [
            &[0x04, 0, 0, 0, 0, 0, 0, 14, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x05, 0xdc, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, b'g'],
        ];
        assert_eq!(body(&update), golden.concat());
        assert_eq!(read_all(body(&update)), Some(update));
    }

    fn any_update() -> impl Strategy<Value = PeerUpdate> {
        let key = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Key::from);
        let ms = || (0..u32::MAX).prop_map(|ms| Duration::from_millis(ms.into()));
        let set = (key(), any::<Vec<u8>>(), prop::option::of(ms()), any::<(u64, u64)>(), ms()).prop_map(
            |(key, value, ttl, (incarnation, count), within)| {
                Change::Set(SetValue::new(key, value.into(), ttl, Stamp { incarnation, count }, within))
            },
        );
        let remove = prop::collection::vec(key(), 0..9).prop_map(Change::Remove);
        let change = prop_oneof![Just(Change::Clear), remove, set];
        let age = (0..u32::MAX).prop_map(|ms| Duration::from_millis(ms.into()));
        let missed = prop::collection::vec("[a-zé:/]{0,9}", 0..4);
        let second = (any::<(u64, u64)>(), ms())
            .prop_map(|((incarnation, count), within)| SecondRound { stamp: Stamp { incarnation, count }, within });
        ("[a-z]{1,9}", any::<u64>(), change, missed, age, prop::option::of(second)).prop_map(
            |(group, ring, change, missed, age, second)| {
                PeerUpdate::new(group, ring, change).missed(missed).age(age).second(second)
            },
        )
    }

    proptest! {
        #[test]
        fn every_update_comes_back(update in any_update()) {
            prop_assert_eq!(read(body(&update), 100), Some(update));
        }

        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>) {
            read_all(body.into());
        }

        #[test]
        fn any_damage_is_read_or_refused(update in any_update(), at: prop::sample::Index, byte: u8) {
            let mut body = body(&update).to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            read_all(body.into());
        }
    }
}
