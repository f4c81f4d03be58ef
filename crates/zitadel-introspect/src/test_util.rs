//! A verifier for handler tests: chosen tokens, no issuer, no socket.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    bearer::AccessToken,
    builder::PresentationSettings,
    cache::{Held, Refused},
    claims::Claims,
    clock::{Clock, Now},
    config_error::ConfigError,
    error::{AuthError, InvalidToken},
    flight::{Found, Outcome},
    issuer::Issuer,
    issuer_error::IssuerError,
    names::{OrganizationId, Role},
    verifier::{Source, Verifier},
};

/// Maps chosen tokens to chosen callers or refusals, behind the same [`Verifier`] that production uses.
///
/// A token that is not mapped is inactive. Only with the feature `test-util`, which belongs into
/// `[dev-dependencies]`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use zitadel_introspect::{Requirement, TestCaller, TestTokens};
///
/// let verifier = TestTokens::new()
///     .caller("admin-token", TestCaller::new("7").role("admin"))
///     .unavailable("unlucky-token")
///     .verifier();
///
/// let admin = Requirement::role("admin");
/// assert!(verifier.authorize([&b"Bearer admin-token"[..]], &admin).await.is_ok());
/// assert_eq!(verifier.authorize([&b"Bearer other"[..]], &admin).await.unwrap_err().status(), 401);
/// assert_eq!(verifier.authorize([&b"Bearer unlucky-token"[..]], &admin).await.unwrap_err().status(), 503);
/// # }
/// ```
#[derive(Default)]
pub struct TestTokens {
    tokens: HashMap<Vec<u8>, Scripted>,
    presentation: PresentationSettings,
}

/// A clock that a test moves; [`Builder::clock`](crate::Builder::clock) gives it to a verifier. It goes on by itself as
/// well. Clones are one clock.
///
/// ```
/// use std::time::Duration;
/// use zitadel_introspect::TestClock;
///
/// let clock = TestClock::new();
/// clock.advance(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// A clock that shows the machine's time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock on.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock so many milliseconds ahead of the machine's, or behind it.
    pub fn set_ahead_millis(&self, millis: i64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    pub(crate) fn as_clock(&self) -> Clock {
        Clock::ahead(Arc::clone(&self.0))
    }
}

/// Who a token belongs to.
#[derive(Debug, Clone)]
pub struct TestCaller {
    claims: Map<String, Value>,
    organization: String,
    /// With the organization that granted each; `None` is the caller's own.
    roles: Vec<(Role, Option<OrganizationId>)>,
    scopes: Vec<String>,
}

#[derive(Debug, Clone)]
enum Scripted {
    Active(Box<Claims>),
    Refused(InvalidToken),
    Unavailable,
}

impl TestTokens {
    /// No token yet: everybody is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that belongs to a caller.
    ///
    /// # Panics
    ///
    /// If a claim set with [`TestCaller::claim`] is one that no issuer would send.
    #[must_use]
    pub fn caller(mut self, token: &str, caller: TestCaller) -> Self {
        let claims = caller.into_claims();
        self.tokens.insert(token.into(), Scripted::Active(Box::new(claims)));
        self
    }

    /// A token that is refused for a reason: 401.
    #[must_use]
    pub fn refused(mut self, token: &str, reason: InvalidToken) -> Self {
        self.tokens.insert(token.into(), Scripted::Refused(reason));
        self
    }

    /// A token about which no verdict can be had: 503.
    #[must_use]
    pub fn unavailable(mut self, token: &str) -> Self {
        self.tokens.insert(token.into(), Scripted::Unavailable);
        self
    }

    /// Renders the bodies of errors as the production verifier does; see
    /// [`Builder::error_body`](crate::Builder::error_body).
    #[must_use]
    pub fn error_body(
        mut self,
        content_type: impl Into<String>,
        render: impl Fn(&AuthError) -> String + Send + Sync + 'static,
    ) -> Self {
        self.presentation.error_body = Some((content_type.into(), Box::new(render)));
        self
    }

    /// The realm of each challenge; see [`Builder::realm`](crate::Builder::realm).
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.presentation.realm = Some(realm.into());
        self
    }

    /// How the API describes itself; see [`Builder::resource`](crate::Builder::resource).
    #[must_use]
    pub fn resource<S: Into<String>>(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = S>,
    ) -> Self {
        self.presentation.resource = Some((resource.into(), scopes.into_iter().map(Into::into).collect()));
        self
    }

    /// The verifier.
    ///
    /// # Panics
    ///
    /// If how errors look is set as no verifier could be built.
    #[must_use]
    pub fn verifier(mut self) -> Verifier {
        let issuer = Issuer::parse("https://issuer.test").expect("an issuer");
        let checked = std::mem::take(&mut self.presentation).check();
        let (presentation, resource) = checked.unwrap_or_else(|error: ConfigError| panic!("{error}"));
        Verifier::new(Source::Scripted(self), issuer, resource, presentation, Clock::default())
    }

    pub(crate) fn get(&self, token: &AccessToken, now: Now) -> Outcome {
        match self.tokens.get(token.as_bytes()) {
            Some(Scripted::Active(claims)) if claims.has_expired(now) => {
                Ok(Found::Bad(Refused::of(claims, InvalidToken::Expired)))
            }
            Some(Scripted::Refused(reason)) => Ok(Found::Bad((*reason).into())),
            Some(Scripted::Active(claims)) => {
                Ok(Found::Good(Arc::new(Held::new(Claims::clone(claims), now.instant, false))))
            }
            Some(Scripted::Unavailable) => Err(IssuerError::TimedOut),
            None => Ok(Found::Bad(InvalidToken::Inactive.into())),
        }
    }
}

impl fmt::Debug for TestTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestTokens").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl TestCaller {
    /// A caller with a user id, in the organization `1`, without roles and scopes.
    #[must_use]
    pub fn new(user_id: &str) -> Self {
        let claims = json!({"sub": user_id, "username": user_id});
        Self {
            claims: claims.as_object().cloned().unwrap_or_default(),
            organization: "1".to_owned(),
            roles: Vec::new(),
            scopes: Vec::new(),
        }
    }

    /// The caller's own organization, in which [`role`](Self::role) grants, whichever of the two is called first.
    #[must_use]
    pub fn organization(mut self, id: impl Into<OrganizationId>) -> Self {
        id.into().as_str().clone_into(&mut self.organization);
        self
    }

    /// A role, granted in the caller's own organization.
    #[must_use]
    pub fn role(mut self, role: impl Into<Role>) -> Self {
        self.roles.push((role.into(), None));
        self
    }

    /// A role, granted in an organization.
    #[must_use]
    pub fn role_in(mut self, role: impl Into<Role>, organization: impl Into<OrganizationId>) -> Self {
        self.roles.push((role.into(), Some(organization.into())));
        self
    }

    /// A scope.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scopes.push(scope.to_owned());
        self
    }

    /// Any other claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// By the same reader that reads the issuer's answers.
    fn into_claims(mut self) -> Claims {
        let mut roles: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for (role, organization) in &self.roles {
            let organization = organization.as_ref().map_or(&*self.organization, OrganizationId::as_str);
            roles.entry(role.as_str()).or_default().insert(organization, "organization.test");
        }
        let own = json!({
            "active": true,
            "scope": self.scopes.join(" "),
            "urn:zitadel:iam:org:project:roles": roles,
            "urn:zitadel:iam:user:resourceowner:id": self.organization,
        });
        self.claims.extend(own.as_object().cloned().unwrap_or_default());
        let read = Claims::from_introspection(Value::Object(self.claims).to_string(), None);
        read.ok().flatten().expect("claims that an issuer could send")
    }
}
