//! The bytes on the wire, for both sides, as `docs/wire.md` specifies them.

pub(crate) mod base_path;
pub(crate) mod decoder;
pub(crate) mod error_codes;
pub(crate) mod escape;
pub(crate) mod frame;
pub(crate) mod gather;
pub(crate) mod get_request;
pub(crate) mod identity;
pub(crate) mod millis;
pub(crate) mod paths;
pub(crate) mod protobuf;
pub(crate) mod reply_meta;
pub(crate) mod update;
