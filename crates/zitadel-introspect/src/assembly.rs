//! Makes the engine below a verifier, once for each process.

use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use tokio::runtime::Handle;
use url::Url;

use crate::{
    background::{self, PerProcess},
    claims::pool::RolePool,
    clock::Clock,
    error::config::ConfigError,
    feed::{
        credentials::Tokens,
        follow::Follower,
        search::{self, Search},
        settings::EventFeed,
    },
    issuer::{
        breaker::Breaker,
        client_auth::ClientAuth,
        connector::Connector,
        discovery::Discovery,
        http::{HttpClient, Way},
        introspection::Introspection,
        key_watch::KeyWatch,
        keys::{KeySource, Keys},
        queue::Queue,
    },
    jwt::LocalJwts,
    names::ProjectId,
    peers::{publish, read::Reader, settings::Shared},
    seal::Seals,
    stats::{Counters, Labels},
    verdict::{
        cache::{Cache, CacheSettings},
        engine::{Engine, EngineSettings},
        fed::FedClock,
        followed::Followed,
        in_flight::InFlight,
        shared::Peers,
        source::Source,
    },
};

/// All that an engine is made of.
pub(crate) struct Recipe {
    pub(crate) settings: EngineSettings,
    pub(crate) cache: CacheSettings,
    pub(crate) clock: Clock,
    pub(crate) source: SourceRecipe,
    pub(crate) feed: Option<EventFeed>,
    pub(crate) shared: Option<Shared>,
}

/// The recipe of a source of verdicts.
pub(crate) enum SourceRecipe {
    Issuer(Box<IssuerRecipe>),
    #[cfg(feature = "test-util")]
    Script(Arc<crate::testing::script::Script>),
}

pub(crate) struct IssuerRecipe {
    /// `None` for a verifier that reads JWTs only.
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) is_single_use: bool,
    pub(crate) project: Option<ProjectId>,
    pub(crate) local_project: Option<ProjectId>,
    pub(crate) base: Option<Url>,
    pub(crate) allow_http: bool,
    pub(crate) connector: Connector,
    pub(crate) max_answer_bytes: usize,
}

/// The engine of this process. A child of `fork` makes a new engine, since it does not have the parent's thread and
/// must not use the parent's connections.
pub(crate) struct Engines {
    recipe: Recipe,
    engines: PerProcess<Arc<Engine>>,
}

/// The parts that verdicts come from.
struct Parts {
    source: Source,
    search: Option<Search>,
    local: Option<LocalJwts>,
    key_watch: Option<KeyWatch>,
    client_id: String,
    /// Our own, where the configuration names it.
    project: Option<ProjectId>,
}

impl Engines {
    pub(crate) fn start(recipe: Recipe) -> Result<Self, ConfigError> {
        let engines = PerProcess::new(recipe.start()?);
        Ok(Self { recipe, engines })
    }

    /// The engine of this process, made if there is none.
    #[inline]
    pub(crate) fn own(&self) -> Result<&Arc<Engine>, ConfigError> {
        self.engines.own(|| self.recipe.start())
    }
}

impl Recipe {
    fn start(&self) -> Result<Arc<Engine>, ConfigError> {
        let handle = background::handle().map_err(ConfigError::Thread)?;
        let parts = match &self.source {
            SourceRecipe::Issuer(issuer) => issuer.start(self, &handle)?,
            #[cfg(feature = "test-util")]
            SourceRecipe::Script(script) => Parts {
                source: Source::Script(Arc::clone(script)),
                search: None,
                local: None,
                key_watch: None,
                client_id: String::new(),
                project: None,
            },
        };
        let issuer = self.settings.issuer.as_str().to_owned();
        let reads_jwts = parts.local.is_some();
        let peers = self.shared.as_ref().map(|shared| {
            let seals = Seals::new(&shared.secrets, &self.settings.issuer, &parts.client_id);
            let own_is_enough = self.feed.as_ref().is_none_or(|feed| feed.follows_claims);
            let needs_claims = shared.needs_claims && own_is_enough;
            Peers::new(Arc::clone(&shared.store), seals, shared.shares_verdicts, needs_claims)
        });
        let holds_action_claims = self.feed.as_ref().is_some_and(|feed| feed.holds_action_claims);
        let is_read_here = self.feed.is_some();
        // With a shared store another instance may read the events.
        let followed = (is_read_here || peers.is_some())
            .then(|| Followed::new(is_read_here, holds_action_claims, parts.project, reads_jwts));
        let engine = Arc::new(Engine {
            settings: self.settings.clone(),
            labels: Labels { issuer, client_id: parts.client_id },
            cache: Cache::new(self.cache.clone()),
            counters: Counters::default(),
            clock: self.clock.clone(),
            in_flight: InFlight::default(),
            local: parts.local,
            source: parts.source,
            key_watch: parts.key_watch,
            fed: FedClock::new(self.clock.now().instant),
            feed: followed,
            peers,
            handle,
            renewals: AtomicUsize::new(0),
            roles: RolePool::default(),
        });
        engine.start_upkeep();
        if engine.peers.is_some() {
            engine.handle.spawn(Reader::new(&engine).run());
            engine.handle.spawn(publish::run(Arc::downgrade(&engine)));
        }
        if let (Some(feed), Some(search)) = (&self.feed, parts.search) {
            let reading = Follower::new(&engine, search, feed.interval, feed.follows_claims).run();
            engine.handle.spawn(reading);
        }
        Ok(engine)
    }
}

impl IssuerRecipe {
    fn start(&self, recipe: &Recipe, handle: &Handle) -> Result<Parts, ConfigError> {
        let (settings, clock) = (&recipe.settings, &recipe.clock);
        let timeout = settings.timeout;
        let http = Arc::new(self.http(settings, clock, self.max_answer_bytes, timeout)?);
        let discovery = Arc::new(Discovery::new(
            Arc::clone(&http),
            settings.issuer.clone(),
            handle.clone(),
            clock.clone(),
            timeout,
        ));
        let discovery_of_feed = Arc::clone(&discovery);
        let local = self.local_project.clone().map(|project| {
            let source = KeySource { http: Arc::clone(&http), discovery: Arc::clone(&discovery) };
            let keys = Keys::new(source, handle.clone(), clock.clone(), timeout);
            LocalJwts::new(keys, settings.issuer.clone(), project, settings.audience.clone())
        });
        let client_id = self.client_auth.as_ref().map_or("", ClientAuth::client_id).to_owned();
        let file = self.client_auth.as_ref().and_then(ClientAuth::file).cloned();
        let key_watch = file.map(|file| KeyWatch::new(file, &client_id, self.is_single_use));
        let source = match &self.client_auth {
            Some(auth) => Source::Issuer(Arc::new(self.introspection(auth, http, discovery, recipe))),
            None => Source::Nobody,
        };
        let project = self.project.clone().or(self.local_project.clone());
        let search = match &recipe.feed {
            Some(feed) => Some(self.search(feed, recipe, discovery_of_feed)?),
            None => None,
        };
        Ok(Parts { source, search, local, key_watch, client_id, project })
    }

    /// On connections of its own: the feed must not wait for questions.
    fn search(
        &self,
        feed: &EventFeed,
        recipe: &Recipe,
        discovery: Arc<Discovery>,
    ) -> Result<Search, ConfigError> {
        let (settings, clock) = (&recipe.settings, &recipe.clock);
        let http = Arc::new(self.http(settings, clock, search::MOST_BYTES, search::TIMEOUT)?);
        let tokens = Tokens::new(feed.credentials.clone(), Arc::clone(&http), discovery, clock.clone());
        Ok(Search::new(http, tokens))
    }

    fn introspection(
        &self,
        auth: &ClientAuth,
        http: Arc<HttpClient>,
        discovery: Arc<Discovery>,
        recipe: &Recipe,
    ) -> Introspection {
        let timeout: Duration = recipe.settings.timeout;
        Introspection {
            http,
            discovery,
            credentials: Mutex::new(Arc::new(auth.credentials(self.is_single_use))),
            project: self.project.clone().or(self.local_project.clone()),
            queue: Queue::new(),
            breaker: Breaker::new(timeout),
            clock: recipe.clock.clone(),
            timeout,
        }
    }

    fn http(
        &self,
        settings: &EngineSettings,
        clock: &Clock,
        max_answer_bytes: usize,
        timeout: Duration,
    ) -> Result<HttpClient, ConfigError> {
        let way = Way::new(&settings.issuer, self.base.clone(), self.allow_http);
        let connector = self.connector.clone();
        let client = HttpClient::new(way, connector, max_answer_bytes, timeout, clock.clone());
        client.map_err(|error| {
            let problem = format!("the TLS client cannot be made ({error})");
            let remedy = "look at the certificates, the system's included";
            ConfigError::invalid("root_certificates_pem", problem, remedy)
        })
    }
}
