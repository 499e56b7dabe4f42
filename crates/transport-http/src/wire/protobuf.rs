//! The protobuf message of golang/groupcache.

use bytes::Bytes;
use prost::Message;

/// The body of a 200. proto2: `optional bytes value = 1; optional double minute_qps = 2;`. Go
/// neither writes nor reads `minute_qps`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetResponse {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) value: Option<Bytes>,
    #[prost(double, optional, tag = "2")]
    pub(crate) minute_qps: Option<f64>,
}

/// The bytes beyond the value that a body may have: tags, lengths and unknown fields.
pub(crate) const MAX_OVERHEAD_BYTES: usize = 1024;

/// The tag and the length before a value of this many bytes. With the value itself they are a whole
/// body, so that a large value is not copied to be sent.
pub(crate) fn value_prefix(value_bytes: usize) -> Bytes {
    let mut prefix = Vec::with_capacity(1 + 10);
    prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut prefix);
    prost::encoding::encode_varint(value_bytes as u64, &mut prefix);
    prefix.into()
}

/// The value in a body; `None` where it has none.
pub(crate) fn value_of(body: Bytes) -> Result<Option<Bytes>, prost::DecodeError> {
    Ok(GetResponse::decode(body)?.value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Written by Go: `proto.Marshal(&pb.GetResponse{Value: []byte("v")})` at golang/groupcache
    // 2c02b82.
    const EMPTY: &[u8] = &[0x0a, 0x00];
    const V: &[u8] = &[0x0a, 0x01, 0x76];
    const V_AT_1_5_QPS: &[u8] = &[0x0a, 0x01, 0x76, 0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f];

    fn encoded(value: &'static [u8]) -> Vec<u8> {
        [&value_prefix(value.len()), value].concat()
    }

    #[test]
    fn writes_what_go_writes() {
        assert_eq!((encoded(b"").as_slice(), encoded(b"v").as_slice()), (EMPTY, V));
    }

    #[test]
    fn reads_what_go_writes() {
        let read = |body| value_of(Bytes::from_static(body)).unwrap();
        assert_eq!(read(b""), None);
        assert_eq!([read(EMPTY), read(V), read(V_AT_1_5_QPS)], ["", "v", "v"].map(|value| Some(Bytes::from(value))));
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        let body = [V, &[0x18, 0x96, 0x01]].concat();
        assert_eq!(value_of(body.into()).unwrap().unwrap(), "v");
    }

    proptest! {
        #[test]
        fn the_prefix_is_the_one_of_the_message(value: Vec<u8>) {
            let message = GetResponse { value: Some(value.clone().into()), minute_qps: None };
            prop_assert_eq!(message.encode_to_vec(), [&value_prefix(value.len())[..], &value].concat());
        }

        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>) {
            let bytes = body.len();
            if let Ok(Some(value)) = value_of(body.into()) {
                prop_assert!(value.len() <= bytes);
            }
        }
    }
}
