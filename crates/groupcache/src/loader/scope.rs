//! The surroundings of a load: the loads around it, the permit it holds, and its tracing span.

use std::{future::Future, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span};

use crate::{key::Key, loader::chain::LoadChain};

tokio::task_local! {
    /// The loads that the running task is part of.
    static LOADS: Option<Arc<Load>>;
}

/// A load in progress, with those whose loaders caused it.
struct Load {
    group: GroupId,
    keys: Vec<Key>,
    /// It and those around it, as other members are told of them.
    chain: LoadChain,
    /// The load's permit, until the last part of it has ended, a thread that blocks included.
    /// There is none for what is loaded at other members.
    _permit: Option<Arc<OwnedSemaphorePermit>>,
    around: Option<Arc<Load>>,
}

/// A number that no other group of the process has while it exists.
pub(crate) type GroupId = usize;

/// The number that no group has.
const NO_GROUP: GroupId = GroupId::MAX;

/// The surroundings that work keeps when it goes on in another task.
#[derive(Clone)]
pub(crate) struct LoadScope {
    load: Option<Arc<Load>>,
    span: Span,
}

impl LoadScope {
    /// The scope of the code that calls.
    pub(crate) fn current() -> Self {
        LoadScope { load: LOADS.try_with(Option::clone).ok().flatten(), span: Span::current() }
    }

    /// The scope of the loader's call for these keys of the group `name`, within this one.
    pub(crate) fn loading(
        self,
        (group, name): (GroupId, &str),
        keys: Vec<Key>,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Self {
        let chain = self.chain().with_keys(name, &keys);
        let load = Load { group, keys, chain, _permit: Some(permit), around: self.load };
        LoadScope { load: Some(Arc::new(load)), ..self }
    }

    /// The scope of what a peer asks for while these loads wait for it there.
    pub(crate) fn asked_by(self, chain: LoadChain) -> Self {
        if chain.is_empty() {
            return self;
        }
        let load = Load { group: NO_GROUP, keys: Vec::new(), chain, _permit: None, around: self.load };
        LoadScope { load: Some(Arc::new(load)), ..self }
    }

    /// The loads that wait for what is asked for in this scope.
    pub(crate) fn chain(&self) -> LoadChain {
        self.load.as_ref().map(|load| load.chain).unwrap_or_default()
    }

    /// Whether the key of the group `name` is being loaded around here, or at a member that waits
    /// for us: to wait for it would be to wait for ourselves.
    pub(crate) fn is_loading((group, name): (GroupId, &str), key: &[u8]) -> bool {
        let is_in = |load: &Option<Arc<Load>>| {
            let Some(load) = load.as_deref() else { return false };
            let mut loads = std::iter::successors(Some(load), |load| load.around.as_deref());
            load.chain.contains(name, key)
                || loads.any(|load| load.group == group && load.keys.iter().any(|other| other.as_bytes() == key))
        };
        LOADS.try_with(is_in).unwrap_or(false)
    }

    /// Runs `work` in this scope.
    pub(crate) fn run<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        LOADS.scope(self.load, work).instrument(self.span)
    }

    /// Runs `work`, which may block, in this scope.
    pub(crate) fn run_blocking<R>(self, work: impl FnOnce() -> R) -> R {
        let LoadScope { load, span } = self;
        span.in_scope(|| LOADS.sync_scope(load, work))
    }
}

impl Drop for Load {
    /// Drops the loads around it one by one: however deep they nest, no stack is needed for it.
    fn drop(&mut self) {
        let mut around = self.around.take();
        while let Some(mut load) = around.and_then(Arc::into_inner) {
            around = load.around.take();
        }
    }
}
