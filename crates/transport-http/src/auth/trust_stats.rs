//! The numbers of requests that were refused, and of answers that were not believed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::auth::gate::Refusal;

/// The numbers of requests that a node refused since it started, by reason, and of answers that it
/// did not believe. The [`Membership`](crate::Membership) decides what is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustStats {
    /// Requests without our header, or with one that cannot be understood.
    pub strangers: u64,
    /// Requests of members of another cluster.
    pub other_clusters: u64,
    /// Requests that were meant for another member.
    pub other_members: u64,
    /// Requests of this node to itself.
    pub from_self: u64,
    /// Requests without a signature, or with a nonce that is over. Each member makes one at its
    /// first contact, and when the nonce changes.
    pub unsigned: u64,
    /// Requests with a signature that is wrong, or of a secret that is not known here.
    pub bad_signatures: u64,
    /// Updates that were made before, and were sent again by somebody on the way.
    pub repeated: u64,
    /// Requests over connections that show no certificate.
    pub without_certificate: u64,
    /// golang's GETs, where they are not answered to everybody.
    pub closed_gets: u64,
    /// Requests to a host of the web, where only this machine may ask: a page makes them whose name
    /// was pointed here.
    pub foreign_hosts: u64,
    /// Answers to this node that were not believed, for somebody else gave them than was asked.
    pub impostors: u64,
}

/// The counters behind [`TrustStats`].
#[derive(Debug, Default)]
pub(crate) struct TrustCounters {
    refusals: [AtomicU64; Refusal::COUNT],
    impostors: AtomicU64,
}

impl TrustCounters {
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        self.refusals[refusal as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_impostor(&self) {
        self.impostors.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> TrustStats {
        let of = |refusal: Refusal| self.refusals[refusal as usize].load(Relaxed);
        TrustStats {
            strangers: of(Refusal::Stranger),
            other_clusters: of(Refusal::OtherCluster),
            other_members: of(Refusal::OtherMember),
            from_self: of(Refusal::IsSelf),
            unsigned: of(Refusal::Unsigned),
            bad_signatures: of(Refusal::BadSignature),
            repeated: of(Refusal::Repeated),
            without_certificate: of(Refusal::NoCertificate),
            closed_gets: of(Refusal::GetsClosed),
            foreign_hosts: of(Refusal::ForeignHost),
            impostors: self.impostors.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_counter_of_its_own() {
        assert_eq!(Refusal::ForeignHost as usize + 1, Refusal::COUNT, "the last one");
        let counters = TrustCounters::default();
        counters.count_refusal(Refusal::Repeated);
        counters.count_impostor();
        assert_eq!(counters.stats(), TrustStats { repeated: 1, impostors: 1, ..TrustStats::default() });
    }
}
