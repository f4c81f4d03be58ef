//! A verifier for handler tests: chosen tokens, no issuer, no socket.

pub(crate) mod script;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use self::script::{Script, Scripted};
use crate::{
    assembly::{Engines, Recipe, SourceRecipe},
    claims::Claims,
    clock::Clock,
    error::{InvalidToken, config::ConfigError},
    issuer::name::Issuer,
    judge::Judge,
    names::{OrganizationId, Role},
    presentation::{PresentationSettings, presentation_setters},
    verdict::{cache::CacheSettings, engine::EngineSettings, freshness::Lifetimes},
    verifier::Verifier,
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
    script: Script,
    presentation: PresentationSettings,
}

/// The owner of a token, in a test.
#[derive(Debug, Clone)]
pub struct TestCaller {
    claims: Map<String, Value>,
    organization: String,
    /// With the organization that granted each; `None` is the caller's own.
    roles: Vec<(Role, Option<OrganizationId>)>,
    scopes: Vec<String>,
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
        self.script.set(token, Scripted::Active(Box::new(claims)));
        self
    }

    /// A token that is refused for a reason: 401.
    #[must_use]
    pub fn refused(mut self, token: &str, reason: InvalidToken) -> Self {
        self.script.set(token, Scripted::Refused(reason));
        self
    }

    /// A token for which the issuer gives no verdict: 503.
    #[must_use]
    pub fn unavailable(mut self, token: &str) -> Self {
        self.script.set(token, Scripted::Unavailable);
        self
    }

    presentation_setters!(presentation);

    /// The verifier.
    ///
    /// # Panics
    ///
    /// If the realm, the resource or the error body is set to an invalid value.
    #[must_use]
    pub fn verifier(self) -> Verifier {
        let issuer = Issuer::parse("https://issuer.test").expect("an issuer");
        let checked = self.presentation.check();
        let (presentation, resource) = checked.unwrap_or_else(|error: ConfigError| panic!("{error}"));
        let recipe = recipe(issuer.clone(), self.script);
        let engines = Engines::start(recipe).unwrap_or_else(|error| panic!("{error}"));
        Verifier::new(Judge { engines, issuer, resource, presentation, clock: Clock::default() })
    }
}

/// As in production, except for the source of verdicts.
fn recipe(issuer: Issuer, script: Script) -> Recipe {
    const CAPACITY: usize = 1000;
    const LARGEST: usize = 1024 * 1024;
    let lifetimes = Lifetimes {
        ttl: Duration::from_secs(60),
        longest_hold: Duration::from_secs(3600),
        unfed_after: Duration::from_secs(15),
        refresh_ahead: None,
        stale_for: Duration::ZERO,
        confirm_within: None,
    };
    let settings = EngineSettings {
        issuer,
        audience: None,
        is_cached: true,
        timeout: Duration::from_secs(5),
        denial_interval: Duration::from_secs(1),
        lifetimes,
    };
    let cache = CacheSettings {
        capacity: CAPACITY,
        bytes: CAPACITY * LARGEST,
        largest: LARGEST,
        refused_ttl: Duration::from_secs(5),
        refused_capacity: CAPACITY,
        distrusts: false,
    };
    let source = SourceRecipe::Script(Arc::new(script));
    Recipe { settings, cache, clock: Clock::default(), source, feed: None, shared: None }
}

impl fmt::Debug for TestTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestTokens").field("tokens", &self.script.len()).finish_non_exhaustive()
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

    /// The caller's own organization. [`role`](Self::role) grants roles in it, also if called before this method.
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

    /// Uses the same reader as for the issuer's answers.
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
