//! The runtimes that carry a group's work, and the limits of the work in each.
//!
//! Work belongs to one runtime from beginning to end, and waits for a permit only beside work of
//! the same runtime. A runtime that nobody drives holds its own permits and places, and no others.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Handle, Id};

use crate::{
    carrier::Carrier,
    core::{fetch_limit::FetchLimiter, load_limit::LoadLimiter},
};

/// The runtimes in which a group's work was started lately.
pub(crate) struct Carriers {
    max: MaxWork,
    workplaces: Mutex<Vec<Arc<Workplace>>>,
}

/// The most work in one runtime.
#[derive(Clone, Copy)]
pub(crate) struct MaxWork {
    pub(crate) loads: usize,
    pub(crate) queued_loads: usize,
    pub(crate) fetches: usize,
}

/// A runtime that carries a group's work, with the limits of it.
pub(crate) struct Workplace {
    pub(crate) carrier: Arc<Carrier>,
    pub(crate) loads: LoadLimiter,
    pub(crate) fetches: Arc<FetchLimiter>,
}

/// The place of a get: where its work is carried, and where its caller waits.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) workplace: Arc<Workplace>,
    pub(crate) caller: Id,
}

impl Carriers {
    pub(crate) fn new(max: MaxWork) -> Self {
        Carriers { max, workplaces: Mutex::default() }
    }

    /// The workplace in the runtime of a carrier that the node has chosen.
    pub(crate) fn of_carrier(&self, carrier: &Arc<Carrier>) -> Arc<Workplace> {
        self.find_or_add(|other| Arc::ptr_eq(other, carrier), || carrier.clone())
    }

    /// The workplace in a caller's runtime.
    pub(crate) fn of_runtime(&self, runtime: &Handle) -> Arc<Workplace> {
        self.find_or_add(|other| other.id() == runtime.id(), || Carrier::new(runtime.clone()))
    }

    fn find_or_add(
        &self,
        is_it: impl Fn(&Arc<Carrier>) -> bool,
        carrier: impl FnOnce() -> Arc<Carrier>,
    ) -> Arc<Workplace> {
        let mut workplaces = self.workplaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = workplaces.iter().find(|workplace| is_it(&workplace.carrier)) {
            return found.clone();
        }
        // Those without work are forgotten, so that runtimes that come and go leave nothing behind.
        let (kept, idle) = workplaces.drain(..).partition(|workplace| workplace.is_busy());
        let MaxWork { loads, queued_loads, fetches } = self.max;
        let new = Arc::new(Workplace {
            carrier: carrier(),
            loads: LoadLimiter::new(loads, queued_loads),
            fetches: FetchLimiter::new(fetches),
        });
        *workplaces = kept;
        workplaces.push(new.clone());
        drop(workplaces);
        // Outside the lock: the last handle of a runtime drops what is left of it.
        let _: Vec<Arc<Workplace>> = idle;
        new
    }
}

impl Workplace {
    /// Whether anybody but the list holds it: work that it carries does, or a permit that is taken.
    fn is_busy(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.carrier) > 1 || self.loads.is_busy()
    }

    pub(crate) fn runtime(&self) -> &Handle {
        self.carrier.runtime()
    }
}

impl Place {
    /// The place of work that the runtime starts itself, and awaits.
    pub(crate) fn within(workplace: Arc<Workplace>) -> Self {
        Place { caller: workplace.carrier.id(), workplace }
    }

    pub(crate) fn runtime(&self) -> &Handle {
        self.workplace.runtime()
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn runtimes_without_work_are_forgotten_when_another_comes() {
        let carriers = Carriers::new(MaxWork { loads: 1, queued_loads: 1, fetches: 1 });
        let runtimes: Vec<_> = (0..3).map(|_| Builder::new_current_thread().build().expect("a runtime")).collect();
        let busy = carriers.of_runtime(runtimes[0].handle());
        drop(carriers.of_runtime(runtimes[1].handle()));
        drop(carriers.of_runtime(runtimes[2].handle()));
        let ids: Vec<_> = carriers.workplaces.lock().expect("no panic").iter().map(|it| it.carrier.id()).collect();
        assert_eq!(ids, [busy.carrier.id(), runtimes[2].handle().id()]);
        assert!(Arc::ptr_eq(&busy, &carriers.of_runtime(runtimes[0].handle())), "its limits are still the same");
    }
}
