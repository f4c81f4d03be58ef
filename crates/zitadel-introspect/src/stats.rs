//! Seen from outside: what the verifier has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of a verifier's counters, from [`Verifier::stats`](crate::Verifier::stats). All count from the
/// verifier's start, but for those that say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Verdicts that were held already and let a caller on.
    pub hits: u64,
    /// Bad verdicts that were held already.
    pub negative_hits: u64,
    /// Tokens about which nothing was held.
    pub misses: u64,
    /// Callers who joined a question that was under way.
    pub coalesced: u64,
    /// Questions because a requirement was not met by a held verdict.
    pub refreshes_on_denial: u64,
    /// Questions because a held verdict was too old for the requirement, or was renewed ahead of its end.
    pub renewals: u64,
    /// Verdicts past their time that served while the issuer failed.
    pub stale: u64,
    /// JWTs that were verified locally.
    pub local: u64,
    /// Questions to the issuer that were answered with active.
    pub active: u64,
    /// Questions to the issuer that were answered with inactive.
    pub inactive: u64,
    /// Questions to the issuer that got no verdict.
    pub failed: u64,
    /// Good verdicts held now.
    pub held: u64,
    /// Bad verdicts held now.
    pub held_bad: u64,
    /// Whether questions are refused at once now, because the issuer fails.
    pub breaker_open: bool,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) negative_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) refreshes_on_denial: Counter,
    pub(crate) renewals: Counter,
    pub(crate) stale: Counter,
    pub(crate) local: Counter,
    pub(crate) active: Counter,
    pub(crate) inactive: Counter,
    pub(crate) failed: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            hits: self.hits.get(),
            negative_hits: self.negative_hits.get(),
            misses: self.misses.get(),
            coalesced: self.coalesced.get(),
            refreshes_on_denial: self.refreshes_on_denial.get(),
            renewals: self.renewals.get(),
            stale: self.stale.get(),
            local: self.local.get(),
            active: self.active.get(),
            inactive: self.inactive.get(),
            failed: self.failed.get(),
            ..Stats::default()
        }
    }
}

impl Stats {
    /// Hands the numbers to whatever recorder the process has installed for the `metrics` facade.
    pub(crate) fn publish(&self, issuer: &str) {
        for (name, value) in [
            ("zitadel_introspect_hits_total", self.hits),
            ("zitadel_introspect_negative_hits_total", self.negative_hits),
            ("zitadel_introspect_misses_total", self.misses),
            ("zitadel_introspect_coalesced_total", self.coalesced),
            ("zitadel_introspect_refreshes_on_denial_total", self.refreshes_on_denial),
            ("zitadel_introspect_renewals_total", self.renewals),
            ("zitadel_introspect_stale_total", self.stale),
            ("zitadel_introspect_local_total", self.local),
        ] {
            metrics::counter!(name, "issuer" => issuer.to_owned()).absolute(value);
        }
        for (outcome, value) in
            [("active", self.active), ("inactive", self.inactive), ("failed", self.failed)]
        {
            let issuer = issuer.to_owned();
            metrics::counter!("zitadel_introspect_upstream_total", "issuer" => issuer, "outcome" => outcome)
                .absolute(value);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "the facade has floats only, and counts are far below 2^52"
        )]
        for (name, value) in [
            ("zitadel_introspect_cache_entries", self.held as f64),
            ("zitadel_introspect_cache_negative_entries", self.held_bad as f64),
            ("zitadel_introspect_breaker_open", f64::from(u8::from(self.breaker_open))),
        ] {
            metrics::gauge!(name, "issuer" => issuer.to_owned()).set(value);
        }
    }
}
