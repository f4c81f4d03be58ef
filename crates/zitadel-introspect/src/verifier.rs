//! The entry point of every request: from the header to the caller.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::{
    caller::Caller,
    diagnosis::Suspicion,
    error::{AuthError, Reason, issuer::IssuerError},
    issuer::{key_watch::ReloadError, name::Issuer},
    judge::Judge,
    names::{OrganizationId, ProjectId, Role, TokenId, UserId},
    requirement::Requirement,
    resource::ResourceMetadata,
    stats::Stats,
    store::StoreError,
    token::AccessToken,
    verdict::{Verdict, engine::Engine, evict::Evict, followed::FeedStatus, shared::SharedStatus},
};

/// Verifies the token of a request, and checks its caller against a requirement. Cheap to clone; make one verifier for
/// the process.
///
/// If a server forks (daemons, workers before the first request), build the verifier after `fork`. A verifier that was
/// built before `fork` works in the child as well: at its next use it detects the new process, and starts its own
/// thread, connections and cache there.
#[derive(Clone)]
pub struct Verifier(Arc<Judge>);

impl Verifier {
    pub(crate) fn new(judge: Judge) -> Self {
        Self(Arc::new(judge))
    }

    /// Takes all `Authorization` fields of a request, and returns a caller who meets the requirement.
    ///
    /// A held verdict answers at once. Otherwise the issuer is asked, and callers with the same token share one answer.
    /// Waits at most [`VerifierBuilder::timeout`](crate::VerifierBuilder::timeout) (5 s unless set). Adapters call this
    /// method; call it yourself if there is no adapter for your framework.
    ///
    /// # Errors
    ///
    /// [`AuthError`] is the complete response for the caller: 401 for absent, malformed and invalid tokens, 400 for two
    /// `Authorization` fields, 403 for a requirement that is not met, 503 if there is no verdict. Each error denies the
    /// request.
    pub async fn authorize<'h>(
        &self,
        authorization_fields: impl IntoIterator<Item = &'h [u8]>,
        requirement: &Requirement,
    ) -> Result<Caller, AuthError> {
        let token = AccessToken::from_headers(authorization_fields);
        let token = token.map_err(|reason| self.0.refuse(reason, None))?;
        self.verify(token, requirement).await
    }

    /// The caller, if a held verdict lets them in without waiting. `None` if the verifier must wait for an answer or
    /// may refuse the caller: then call [`authorize`](Self::authorize). For adapters, which then need no future for a
    /// cache hit.
    #[must_use]
    pub fn authorize_held<'h>(
        &self,
        authorization_fields: impl IntoIterator<Item = &'h [u8]>,
        requirement: &Requirement,
    ) -> Option<Caller> {
        let token = AccessToken::from_headers(authorization_fields).ok()?;
        let now = self.0.clock.now();
        let active = self.0.engine().ok()?.hit(&token, requirement, now).ok()?;
        Some(Caller::new(&self.0, token, active, now.instant, now.instant))
    }

    /// As [`authorize`](Self::authorize), for optional credentials: `None` if the request has no bearer credentials;
    /// this is not a refusal and is not logged. Bad credentials are still refused.
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize).
    pub async fn authorize_optional<'h>(
        &self,
        authorization_fields: impl IntoIterator<Item = &'h [u8]>,
        requirement: &Requirement,
    ) -> Result<Option<Caller>, AuthError> {
        match AccessToken::from_headers(authorization_fields) {
            Err(Reason::MissingToken | Reason::UnsupportedScheme) => Ok(None),
            Err(reason) => Err(self.0.refuse(reason, None)),
            Ok(token) => self.verify(token, requirement).await.map(Some),
        }
    }

    /// As [`authorize`](Self::authorize), with the token itself: for a token that did not come in a header, but in a
    /// message, a queue or the protocol of a web socket.
    ///
    /// ```
    /// # use zitadel_introspect::{Caller, Requirement, Verifier};
    /// # async fn example(verifier: Verifier, text: &str) -> Result<Caller, Box<dyn std::error::Error>> {
    /// let caller = verifier.verify(text.parse()?, &Requirement::role("admin")).await?;
    /// # Ok(caller)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize).
    pub async fn verify(&self, token: AccessToken, requirement: &Requirement) -> Result<Caller, AuthError> {
        let began = self.0.clock.now();
        let active = match self.0.engine_or_refuse()?.hit(&token, requirement, began) {
            Ok(active) => {
                let now = began.instant;
                return Ok(Caller::new(&self.0, token, active, now, now));
            }
            // Boxed, so that the future of a cache hit, the usual case, stays small.
            Err(known) => Box::pin(self.0.decide(&token, known, requirement, began)).await?,
        };
        Ok(Caller::new(&self.0, token, active, began.instant, self.0.clock.now().instant))
    }

    /// Checks that the issuer accepts our credentials: introspects a token that was never issued.
    ///
    /// For the start of a service, so that a wrong key stops the start. A service may also start while its issuer
    /// cannot be reached: it works from the first good answer on.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Refused`] if the issuer refuses our key or secret, [`IssuerError::OtherIssuer`] if the discovery
    /// document names another issuer, [`IssuerError::NoInstance`] if the host belongs to no ZITADEL instance,
    /// [`IssuerError::AlwaysActive`] if the issuer calls this token active, other variants if the issuer cannot be
    /// asked.
    pub async fn check(&self) -> Result<(), IssuerError> {
        match self.0.engine()?.check().await? {
            Some(Verdict::Active(_)) => Err(IssuerError::AlwaysActive),
            Some(Verdict::Refused(_)) | None => Ok(()),
        }
    }

    /// Reads the key file again, and uses its key once the issuer has accepted it. The previous key stays in use until
    /// then, and also if anything is wrong with the new key. The verifier does this by itself within seconds after the
    /// file has changed; call this function when an operator requests it, for example by SIGHUP.
    ///
    /// # Errors
    ///
    /// [`ReloadError`] says why the new key was not taken up.
    pub async fn reload_key(&self) -> Result<(), ReloadError> {
        let engine = Arc::clone(self.0.engine().map_err(ReloadError::Issuer)?);
        let handle = engine.handle.clone();
        let reloading = handle.spawn(async move {
            match (&engine.key_watch, engine.source.issuer()) {
                (Some(watch), Some(issuer)) => watch.take_up(issuer).await,
                _ => Err(ReloadError::NoFile),
            }
        });
        reloading.await.unwrap_or(Err(ReloadError::Issuer(IssuerError::Lost)))
    }

    /// The time by the issuer's clock, to the second. Client authentication by key and the expiry of tokens depend on two
    /// clocks that agree.
    ///
    /// `None` if the answer has no `Date`, or if the verifier never asks the issuer.
    ///
    /// # Errors
    ///
    /// [`IssuerError`] if the issuer cannot be asked.
    pub async fn issuer_time(&self) -> Result<Option<SystemTime>, IssuerError> {
        let engine = Arc::clone(self.0.engine()?);
        let handle = engine.handle.clone();
        handle.spawn(async move { engine.source.time().await }).await.unwrap_or(Err(IssuerError::Lost))
    }

    /// Possible reasons, from the **unverified** text of a token, why the issuer calls the token inactive; at least
    /// one. For the person who looks for the cause; never for a decision.
    #[must_use]
    pub fn suspect(&self, token: &str) -> Vec<Suspicion> {
        let client_id = self.0.engine().map_or("", |engine| &engine.labels.client_id);
        Suspicion::of(token, &self.0.issuer, client_id, self.0.clock.now())
    }

    /// The issuer whose tokens are verified.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.0.issuer
    }

    /// Whether this very verifier, or a clone of it, has verified the caller. Adapters check this before they use a
    /// caller that a layer has put into the request.
    #[must_use]
    pub fn has_verified(&self, caller: &Caller) -> bool {
        caller.belongs_to(&self.0)
    }

    /// The description of the API ([RFC 9728]), as set by
    /// [`VerifierBuilder::resource`](crate::VerifierBuilder::resource). For adapters, which serve it on a route.
    ///
    /// [RFC 9728]: https://www.rfc-editor.org/rfc/rfc9728
    #[must_use]
    pub fn resource_metadata(&self) -> ResourceMetadata {
        ResourceMetadata::new(self.0.resource.as_ref(), self.0.issuer.as_str())
    }

    /// The counters of the verifier. The same numbers go to the `metrics` facade once a second.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.engine().map(|engine| engine.stats()).unwrap_or_default()
    }

    /// How the event feed fares; `None` without one.
    #[must_use]
    pub fn event_feed(&self) -> Option<FeedStatus> {
        let engine = self.0.engine().ok()?;
        let age = engine.fed.age(engine.clock.now().instant);
        // Where there is a shared store, another instance may read the events, or nobody.
        let feed = engine.feed.as_ref().filter(|feed| feed.is_read_here || age.is_some())?;
        Some(feed.status(age))
    }

    /// How the shared store fares; `None` without one.
    #[must_use]
    pub fn shared(&self) -> Option<SharedStatus> {
        let engine = self.0.engine().ok()?;
        Some(engine.peers.as_ref()?.status(engine.clock.now().instant))
    }

    /// Appends an entry that says nothing and reads it back. Gives what an operator should change about the shared store,
    /// one line each; `None` without one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer, cannot be written, or does not show the entry.
    pub async fn check_shared(&self) -> Result<Option<Vec<String>>, StoreError> {
        let engine = self.0.engine().map_err(|error| StoreError::new(error.to_string()))?;
        if engine.peers.is_none() {
            return Ok(None);
        }
        let (engine, handle) = (Arc::clone(engine), engine.handle.clone());
        let checking = handle.spawn(async move {
            match &engine.peers {
                Some(peers) => peers.check().await.map(Some),
                None => Ok(None),
            }
        });
        checking.await.unwrap_or_else(|_| Err(StoreError::new("the library's thread has ended")))
    }

    /// Evicts the verdict on one token: callers who ask from now on do not get it. Callers who already wait for a
    /// question in flight still get its answer, but the answer is not kept.
    ///
    /// Text that is not a token has no effect.
    pub fn evict_token(&self, token: &str) {
        if let Ok(token) = token.parse() {
            self.with_engine(|engine| engine.evict_token(&token));
        }
    }

    /// Forgets verdicts by the token's id: `jti`, or the OIDC session, which is the part of `jti` before `-at_`.
    ///
    /// Looks at each held verdict, as do all `evict_` methods except [`evict_token`](Self::evict_token): for events,
    /// not for requests.
    pub fn evict_token_id(&self, id: &TokenId) {
        self.evict(Evict::TokenId(id.clone()));
    }

    /// Forgets all verdicts on a user's tokens.
    pub fn evict_user(&self, id: &UserId) {
        self.evict(Evict::User(id.clone()));
    }

    /// Forgets all verdicts on users of an organization, on users with a role that this organization granted, and on
    /// users whose organization is not known: a token names the organization only with the scope
    /// `urn:zitadel:iam:user:resourceowner`.
    pub fn evict_organization(&self, id: &OrganizationId) {
        self.evict(Evict::Organization(id.clone()));
    }

    /// Forgets all verdicts on users who have a role on a project: for a role that was removed from the project.
    ///
    /// The generic role claim does not name its project, so a verdict with that role there counts as a match.
    pub fn evict_role(&self, project: &ProjectId, role: &Role) {
        self.evict(Evict::Role(project.clone(), role.clone()));
    }

    /// Forgets everything.
    pub fn evict_all(&self) {
        self.evict(Evict::All);
    }

    fn evict(&self, what: Evict) {
        self.with_engine(|engine| engine.evict(&[what]));
    }

    /// The engine of this process.
    pub(crate) fn own_engine(&self) -> Option<Arc<Engine>> {
        self.0.engine().ok().cloned()
    }

    fn with_engine(&self, work: impl FnOnce(&Engine)) {
        // A process without an engine holds no verdict.
        if let Ok(engine) = self.0.engine() {
            work(engine);
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientAuth;

    #[tokio::test]
    async fn what_another_was_answered_meanwhile_is_not_asked_again() {
        let issuer = zitadel_introspect_testkit::Issuer::start().await;
        let api = issuer.project("tasks").api("api");
        let token = issuer.service_user("user").pat();
        let auth = ClientAuth::key_json(&api.key_json()).unwrap();
        let verifier = Verifier::builder(Issuer::parse(&issuer.url()).unwrap(), auth).build().unwrap();
        let token: AccessToken = token.parse().unwrap();
        let _ = verifier.verify(token.clone(), &Requirement::any_caller()).await.unwrap();
        let engine = verifier.0.engine().unwrap();
        for _ in 0..2 {
            // As a caller does who looked before the verdict was there.
            let verdict = engine.ask(&token, engine.cache.key(&token), None).await;
            assert!(matches!(verdict, Ok(Verdict::Active(_))), "{verdict:?}");
        }
        assert_eq!(issuer.introspections(), 1);
    }
}
