//! Counters and metrics of a verifier.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        LazyLock, Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter as Published, Histogram, Unit};

use crate::background::PerProcess;

/// A snapshot of a verifier's counters, from [`Verifier::stats`](crate::Verifier::stats). All count from the verifier's
/// start, unless stated otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that a held verdict allowed.
    pub hits: u64,
    /// Requests that a held bad verdict refused.
    pub negative_hits: u64,
    /// Tokens about which nothing was held.
    pub misses: u64,
    /// Callers who joined a question in flight.
    pub coalesced: u64,
    /// Questions because a held verdict did not meet a requirement.
    pub refreshes_on_denial: u64,
    /// Questions because a held verdict was too old for the requirement, or was renewed ahead of its end.
    pub renewals: u64,
    /// Lapsed verdicts that still answered while the issuer failed.
    pub stale: u64,
    /// JWTs that were verified locally.
    pub local: u64,
    /// Verdicts that another instance had asked for.
    pub shared: u64,
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
    pub(crate) shared: Counter,
    pub(crate) active: Counter,
    pub(crate) inactive: Counter,
    pub(crate) failed: Counter,
    /// The numbers that the facade has so far.
    published: Mutex<Stats>,
}

/// The verifier that the numbers belong to: a process may have several verifiers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Labels {
    pub(crate) issuer: String,
    /// Empty for a verifier that only reads JWTs.
    pub(crate) client_id: String,
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
            shared: self.shared.get(),
            active: self.active.get(),
            inactive: self.inactive.get(),
            failed: self.failed.get(),
            ..Stats::default()
        }
    }
}

/// One of the numbers.
type Number = fn(&Stats) -> u64;
/// The name of a metric, its help text, and the number that it shows.
type Metric = (&'static str, &'static str, Number);

const COUNTERS: [Metric; 9] = [
    ("zitadel_introspect_hits_total", "Requests let on by a verdict that was held", |stats| stats.hits),
    ("zitadel_introspect_negative_hits_total", "Requests refused by a verdict that was held", |stats| {
        stats.negative_hits
    }),
    ("zitadel_introspect_misses_total", "Tokens about which nothing was held", |stats| stats.misses),
    ("zitadel_introspect_coalesced_total", "Requests that joined a question in flight", |stats| {
        stats.coalesced
    }),
    (
        "zitadel_introspect_refreshes_on_denial_total",
        "Questions because a held verdict lacked a role",
        |stats| stats.refreshes_on_denial,
    ),
    ("zitadel_introspect_renewals_total", "Questions because a held verdict was too old", |stats| {
        stats.renewals
    }),
    (
        "zitadel_introspect_stale_total",
        "Verdicts past their time that served while the issuer failed",
        |stats| stats.stale,
    ),
    ("zitadel_introspect_local_total", "JWTs that were verified locally", |stats| stats.local),
    ("zitadel_introspect_shared_total", "Verdicts that another instance had asked for", |stats| stats.shared),
];

const UPSTREAM: &str = "zitadel_introspect_upstream_total";
const OUTCOMES: [(&str, Number); 3] = [
    ("active", |stats| stats.active),
    ("inactive", |stats| stats.inactive),
    ("failed", |stats| stats.failed),
];

const GAUGES: [Metric; 3] = [
    ("zitadel_introspect_cache_entries", "Good verdicts held now", |stats| stats.held),
    ("zitadel_introspect_cache_negative_entries", "Bad verdicts held now", |stats| stats.held_bad),
    (
        "zitadel_introspect_breaker_open",
        "1 while questions are refused at once because the issuer fails",
        |stats| u64::from(stats.breaker_open),
    ),
];

/// The sums over verifiers with the same labels. Kept here and not in the recorder, which may be installed
/// when verdicts are held already.
// A child of `fork` begins anew: its parent may have held the lock.
static SUMS: LazyLock<PerProcess<Mutex<Sums>>> = LazyLock::new(|| PerProcess::new(Mutex::default()));

type Sums = HashMap<Labels, [u64; GAUGES.len()]>;

const FEED_AGE: &str = "zitadel_introspect_feed_age_seconds";
pub(crate) const FEED_EVENTS: &str = "zitadel_introspect_feed_events_total";
pub(crate) const FEED_LATE_EVENTS: &str = "zitadel_introspect_feed_late_events_total";
pub(crate) const FEED_FAILURES: &str = "zitadel_introspect_feed_failures_total";
/// 1 while the shared log is not known to its end.
const BLIND: &str = "zitadel_introspect_blind";
pub(crate) const SHARED_UNOPENED: &str = "zitadel_introspect_shared_unopened_total";
const SECONDS: &str = "zitadel_introspect_upstream_seconds";

impl Counters {
    /// Publishes the counts since the last call to the recorder that the process has installed for the `metrics`
    /// facade. The numbers of verifiers with the same labels are added.
    pub(crate) fn publish(&self, now: Stats, labels: &Labels) {
        describe();
        let mut before = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _, value) in COUNTERS {
            add(&labels.counter(name), value(&before), value(&now));
        }
        for (outcome, value) in OUTCOMES {
            add(&labels.upstream(outcome), value(&before), value(&now));
        }
        let Ok(sums) = SUMS.own(|| Ok::<_, Infallible>(Mutex::default()));
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = sums.entry(labels.clone()).or_default();
        for ((name, _, value), sum) in GAUGES.into_iter().zip(sums) {
            *sum = (*sum + value(&now)).saturating_sub(value(&before));
            let gauge = metrics::gauge!(
                name, "issuer" => labels.issuer.clone(), "client_id" => labels.client_id.clone());
            #[expect(
                clippy::cast_precision_loss,
                reason = "the facade has floats only, and counts are far below 2^52"
            )]
            gauge.set(*sum as f64);
        }
        *before = now;
    }
}

impl Labels {
    pub(crate) fn upstream_seconds(&self) -> Histogram {
        let (issuer, client_id) = (self.issuer.clone(), self.client_id.clone());
        metrics::histogram!(SECONDS, "issuer" => issuer, "client_id" => client_id)
    }

    /// How old the knowledge of events is.
    pub(crate) fn publish_feed_age(&self, age: Duration) {
        let (issuer, client_id) = (self.issuer.clone(), self.client_id.clone());
        metrics::gauge!(FEED_AGE, "issuer" => issuer, "client_id" => client_id).set(age.as_secs_f64());
    }

    /// A number of the event feed, perhaps with one label more.
    pub(crate) fn of_feed(
        &self,
        name: &'static str,
        label: Option<(&'static str, &'static str)>,
    ) -> Published {
        let (issuer, client_id) = (self.issuer.clone(), self.client_id.clone());
        let Some((key, value)) = label else {
            return metrics::counter!(name, "issuer" => issuer, "client_id" => client_id);
        };
        metrics::counter!(name, "issuer" => issuer, "client_id" => client_id, key => value)
    }

    /// Whether the shared log is not known to its end.
    pub(crate) fn publish_blindness(&self, is_blind: bool) {
        let (issuer, client_id) = (self.issuer.clone(), self.client_id.clone());
        metrics::gauge!(BLIND, "issuer" => issuer, "client_id" => client_id)
            .set(f64::from(u8::from(is_blind)));
    }

    pub(crate) fn counter(&self, name: &'static str) -> Published {
        metrics::counter!(name, "issuer" => self.issuer.clone(), "client_id" => self.client_id.clone())
    }

    fn upstream(&self, outcome: &'static str) -> Published {
        let (issuer, client_id) = (self.issuer.clone(), self.client_id.clone());
        metrics::counter!(UPSTREAM, "issuer" => issuer, "client_id" => client_id, "outcome" => outcome)
    }
}

fn add(counter: &Published, before: u64, now: u64) {
    counter.increment(now.saturating_sub(before));
}

/// Gives the metrics their help texts, once for the process.
fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, help, _) in COUNTERS {
            metrics::describe_counter!(name, help);
        }
        metrics::describe_counter!(UPSTREAM, "Questions to the issuer by their outcome");
        for (name, help, _) in GAUGES {
            metrics::describe_gauge!(name, help);
        }
        metrics::describe_gauge!(FEED_AGE, Unit::Seconds, "How old the knowledge of ZITADEL's events is");
        metrics::describe_counter!(FEED_EVENTS, "Events that the feed has read");
        metrics::describe_counter!(
            FEED_LATE_EVENTS,
            "Events that became visible too late for a usual search"
        );
        metrics::describe_counter!(FEED_FAILURES, "Polls of the feed that failed, by their reason");
        metrics::describe_gauge!(BLIND, "1 while the shared log of evictions is not known to its end");
        metrics::describe_counter!(
            SHARED_UNOPENED,
            "Entries of the shared log that do not open: changed, or sealed with another secret"
        );
        metrics::describe_histogram!(SECONDS, Unit::Seconds, "How long questions to the issuer took");
    });
}
