//! The reply to a peer: what was found, encoded.

use crate::{
    answer::Source,
    cache::entry::Found,
    catch_panic::caught,
    core::Core,
    core::get_context::GetContext,
    core::state::GroupState,
    error::{Error, ErrorKind},
    key::Key,
    peer::PeerReply,
    peer::reply_meta::ReplyMeta,
    store::flight::Outcome,
    value::Value,
};

/// The value that is cached, without counting a lookup or a use.
pub(super) fn peek<V: Value>(core: &Core<V>, key: &Key, context: GetContext) -> Option<Found<V>> {
    let now_ms = core.state.clock.coarse_ms();
    core.state.store.peek(key.as_bytes(), context.requester, context.freshness, now_ms)
}

/// The value that is cached, or the result of a load.
pub(super) async fn find_or_load<V: Value>(core: &Core<V>, key: &Key, context: GetContext) -> Outcome<V> {
    match peek(core, key, context) {
        Some(found) => Ok(found),
        None => core.wait(key, context, core.start(key.as_bytes(), context)).await,
    }
}

pub(super) fn encode<V: Value>(state: &GroupState<V>, outcome: Outcome<V>) -> Result<PeerReply, Error> {
    let found = outcome?;
    let meta = ReplyMeta {
        age: found.age(),
        remaining: found.remaining(),
        stale: found.source == Source::Stale,
        ring: Some(state.members.view().digest()),
        minute_qps: found.qps,
    };
    let encoded = found.value.map(|value| caught("the encoder", || value.encode())).transpose()?;
    let value = encoded.transpose().map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
    Ok(PeerReply { value, meta })
}
