//! The settings, and the verifier that is made of them.

use std::time::Duration;

use crate::{
    assembly::{Engines, IssuerRecipe, Recipe, SourceRecipe},
    claims::Claims,
    clock::Clock,
    error::config::ConfigError,
    feed::settings::EventFeed,
    issuer::{client_auth::ClientAuth, name::Issuer},
    judge::Judge,
    names::ProjectId,
    peers::settings::Shared,
    presentation::PresentationSettings,
    verdict::{cache::CacheSettings, engine::EngineSettings, freshness::Lifetimes},
    verifier::Verifier,
};

const TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const CACHE_TTL: Duration = Duration::from_secs(60);
/// With an event feed.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(3600);
const CACHE_CAPACITY: usize = 50_000;
/// Twice the usual size of a verdict.
const BYTES_PER_VERDICT: usize = 4 * 1024;
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
const NEGATIVE_CAPACITY: usize = 5_000;
const DENIAL_INTERVAL: Duration = Duration::from_secs(1);
/// Another instance that reads the events for this one takes at most about so long for two polls.
const POLLS_OF_OTHERS: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The settings as they were made, not checked yet.
pub(super) struct Settings {
    pub(super) issuer: Issuer,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) connect_to: Option<String>,
    pub(super) allow_http: bool,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) max_answer_bytes: usize,
    pub(super) is_single_use: bool,
    pub(super) audience: Option<String>,
    pub(super) project: Option<ProjectId>,
    pub(super) proxy: Option<String>,
    pub(super) root_certificates: Vec<Vec<u8>>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) presentation: PresentationSettings,
    pub(super) cache: CacheWishes,
    pub(super) local: LocalWishes,
    pub(super) confirm_within: Option<Duration>,
    pub(super) feed: Option<EventFeed>,
    pub(super) shared: Option<Shared>,
    pub(super) clock: Clock,
}

/// The settings of the cache. Each that was not made has a default.
#[derive(Default)]
pub(super) struct CacheWishes {
    pub(super) is_off: bool,
    pub(super) ttl: Option<Duration>,
    pub(super) capacity: Option<usize>,
    pub(super) bytes: Option<usize>,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) negative_capacity: Option<usize>,
    pub(super) denial_interval: Option<Duration>,
    pub(super) refresh_ahead: Option<Duration>,
    pub(super) stale_for: Option<Duration>,
    pub(super) longest_hold: Option<Duration>,
}

/// The settings of local verification.
#[derive(Default)]
pub(super) struct LocalWishes {
    pub(super) project: Option<ProjectId>,
    /// A second call named another project.
    pub(super) has_two_projects: bool,
    /// It was asked for by the name that needs a feed.
    pub(super) relies_on_feed: bool,
}

impl LocalWishes {
    pub(super) fn wish(&mut self, project: ProjectId) {
        self.has_two_projects |= self.project.as_ref().is_some_and(|before| *before != project);
        self.project = Some(project);
    }
}

impl Settings {
    pub(super) fn new(issuer: Issuer, client_auth: Option<ClientAuth>) -> Self {
        Self {
            issuer,
            client_auth,
            connect_to: None,
            allow_http: false,
            timeout: TIMEOUT,
            connect_timeout: None,
            max_answer_bytes: MAX_ANSWER_BYTES,
            is_single_use: false,
            audience: None,
            project: None,
            proxy: None,
            root_certificates: Vec::new(),
            headers: Vec::new(),
            presentation: PresentationSettings::default(),
            cache: CacheWishes::default(),
            local: LocalWishes::default(),
            confirm_within: None,
            feed: None,
            shared: None,
            clock: Clock::default(),
        }
    }

    /// Whether this or another instance may read the issuer's events.
    pub(super) fn may_follow_events(&self) -> bool {
        self.feed.is_some() || self.shared.is_some()
    }

    pub(super) fn build(self) -> Result<Verifier, ConfigError> {
        self.check_bounds()?;
        self.check_contradictions()?;
        let base = self.base()?;
        let connector = self.connector(base.as_ref())?;
        let (settings, cache) = (self.engine_settings(), self.cache_settings());
        let (presentation, resource) = self.presentation.check()?;
        let source = IssuerRecipe {
            client_auth: self.client_auth,
            is_single_use: self.is_single_use,
            project: self.project,
            local_project: self.local.project,
            base,
            allow_http: self.allow_http,
            connector,
            max_answer_bytes: self.max_answer_bytes,
        };
        let source = SourceRecipe::Issuer(Box::new(source));
        let clock = self.clock.clone();
        let recipe = Recipe { settings, cache, clock, source, feed: self.feed, shared: self.shared };
        let engines = Engines::start(recipe)?;
        Ok(Verifier::new(Judge { engines, issuer: self.issuer, resource, presentation, clock: self.clock }))
    }

    fn engine_settings(&self) -> EngineSettings {
        let ttl = self.cache.ttl.unwrap_or(CACHE_TTL);
        // A quarter of the time, but never within the time between two polls.
        let polls = self.feed.as_ref().map(|feed| feed.interval * 2);
        let polls = polls.or(self.shared.as_ref().map(|_| POLLS_OF_OTHERS)).unwrap_or_default();
        EngineSettings {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            is_cached: !self.cache.is_off,
            timeout: self.timeout,
            denial_interval: self.cache.denial_interval.unwrap_or(DENIAL_INTERVAL),
            lifetimes: Lifetimes {
                ttl,
                unfed_after: (ttl / 4).max(polls).min(ttl * 3 / 4),
                longest_hold: self.cache.longest_hold.unwrap_or(LONGEST_HOLD),
                refresh_ahead: self.cache.refresh_ahead,
                stale_for: self.cache.stale_for.unwrap_or_default(),
                confirm_within: self.confirm_within,
            },
        }
    }

    /// In bytes.
    pub(super) fn largest_verdict(&self) -> usize {
        self.max_answer_bytes.saturating_mul(Claims::LARGEST_GROWTH)
    }

    fn cache_settings(&self) -> CacheSettings {
        let capacity = self.cache.capacity.unwrap_or(CACHE_CAPACITY);
        let usual_bytes = capacity.saturating_mul(BYTES_PER_VERDICT).max(self.largest_verdict());
        CacheSettings {
            capacity,
            bytes: self.cache.bytes.unwrap_or(usual_bytes),
            largest: self.largest_verdict(),
            refused_ttl: self.cache.negative_ttl.unwrap_or(NEGATIVE_TTL),
            refused_capacity: self.cache.negative_capacity.unwrap_or(NEGATIVE_CAPACITY),
            distrusts: self.local.project.is_some() && self.client_auth.is_some(),
        }
    }
}
