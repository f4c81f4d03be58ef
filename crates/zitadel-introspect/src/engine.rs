//! Makes the engine below a verifier, once for each process.

use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use crate::{
    breaker::Breaker,
    cache::{Cache, CacheSettings},
    client_auth::ClientAuth,
    clock::Clock,
    config_error::ConfigError,
    connector::Connector,
    discovery::Discovery,
    flight::Flights,
    http_client::{HttpClient, Way},
    introspection::Introspection,
    jwt::{KeySource, LocalJwts},
    key_watch::KeyWatch,
    names::ProjectId,
    runtime::{self, PerProcess},
    stats::{Counters, Labels},
    turns::Turns,
    verdicts::{VerdictSettings, Verdicts},
};

/// All that an engine is made of.
pub(crate) struct Recipe {
    pub(crate) settings: VerdictSettings,
    pub(crate) cache: CacheSettings,
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) is_single_use: bool,
    pub(crate) project: Option<ProjectId>,
    pub(crate) local_project: Option<ProjectId>,
    pub(crate) base: Option<url::Url>,
    pub(crate) allow_http: bool,
    pub(crate) connector: Connector,
    pub(crate) max_answer_bytes: usize,
    pub(crate) clock: Clock,
}

/// The engine of this process; a child of `fork` starts anew, since it has neither the parent's thread nor a right to
/// its connections.
pub(crate) struct Engines {
    recipe: Recipe,
    engines: PerProcess<Arc<Verdicts>>,
}

impl Engines {
    pub(crate) fn start(recipe: Recipe) -> Result<Self, ConfigError> {
        let engines = PerProcess::new(recipe.start()?);
        Ok(Self { recipe, engines })
    }

    /// The engine, if this process has one already.
    #[inline]
    pub(crate) fn made(&self) -> Option<&Arc<Verdicts>> {
        self.engines.made()
    }

    /// For what asks.
    pub(crate) fn own(&self) -> Result<&Arc<Verdicts>, ConfigError> {
        self.engines.own(|| self.recipe.start())
    }
}

impl Recipe {
    pub(crate) fn client_id(&self) -> &str {
        self.client_auth.as_ref().map_or("", ClientAuth::client_id)
    }

    fn start(&self) -> Result<Arc<Verdicts>, ConfigError> {
        let handle = runtime::handle().map_err(ConfigError::Thread)?;
        let timeout = self.settings.timeout;
        let http = Arc::new(self.http(timeout)?);
        let (issuer, clock) = (self.settings.issuer.clone(), self.clock.clone());
        let discovery = Arc::new(Discovery::new(Arc::clone(&http), issuer.clone(), timeout, clock.clone()));
        let local = self.local_project.clone().map(|project| {
            let (http, discovery, handle) = (Arc::clone(&http), Arc::clone(&discovery), handle.clone());
            let source = KeySource { handle, http, discovery, timeout };
            LocalJwts::new(source, issuer.clone(), project, self.settings.audience.clone())
        });
        let introspection = self.client_auth.as_ref().map(|auth| {
            Arc::new(Introspection {
                http,
                discovery,
                credentials: Mutex::new(Arc::new(auth.credentials(self.is_single_use))),
                project: self.project.clone().or(self.local_project.clone()),
                turns: Turns::new(),
                breaker: Breaker::new(timeout),
                clock,
                timeout,
            })
        });
        let file = self.client_auth.as_ref().and_then(ClientAuth::file).cloned();
        let verdicts = Arc::new(Verdicts {
            settings: self.settings.clone(),
            labels: Labels { issuer: issuer.as_str().to_owned(), client_id: self.client_id().to_owned() },
            cache: Cache::new(self.cache.clone()),
            counters: Counters::default(),
            clock: self.clock.clone(),
            flights: Flights::default(),
            local,
            introspection,
            key_watch: file.map(|file| KeyWatch::new(file, self.client_id(), self.is_single_use)),
            handle,
            renewals: AtomicUsize::new(0),
        });
        verdicts.tend();
        Ok(verdicts)
    }

    fn http(&self, timeout: Duration) -> Result<HttpClient, ConfigError> {
        let way = Way::new(&self.settings.issuer, self.base.clone(), self.allow_http);
        let (connector, clock) = (self.connector.clone(), self.clock.clone());
        HttpClient::new(way, connector, self.max_answer_bytes, timeout, clock).map_err(|error| {
            let problem = format!("the TLS client cannot be made ({error})");
            let remedy = "look at the certificates, the system's included";
            ConfigError::invalid("root_certificates_pem", problem, remedy)
        })
    }
}
