//! A verifier for handler tests: chosen tokens, no issuer, no socket.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use serde_json::{Map, Value, json};

use crate::{
    bearer::AccessToken,
    cache::{Held, Refused},
    claims::Claims,
    clock::{Clock, Now},
    error::InvalidToken,
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
pub struct TestTokens(HashMap<Vec<u8>, Scripted>);

/// Who a token belongs to.
#[derive(Debug, Clone)]
pub struct TestCaller {
    claims: Map<String, Value>,
    organization: String,
    roles: BTreeMap<String, BTreeMap<String, String>>,
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
        self.0.insert(token.into(), Scripted::Active(Box::new(claims)));
        self
    }

    /// A token that is refused for a reason: 401.
    #[must_use]
    pub fn refused(mut self, token: &str, reason: InvalidToken) -> Self {
        self.0.insert(token.into(), Scripted::Refused(reason));
        self
    }

    /// A token about which no verdict can be had: 503.
    #[must_use]
    pub fn unavailable(mut self, token: &str) -> Self {
        self.0.insert(token.into(), Scripted::Unavailable);
        self
    }

    /// The verifier.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the address is fixed and good")]
    pub fn verifier(self) -> Verifier {
        let issuer = Issuer::parse("https://issuer.test").expect("an issuer");
        Verifier::new(Source::Scripted(self), issuer, None, Arc::default(), Clock::default())
    }

    pub(crate) fn get(&self, token: &AccessToken, now: Now) -> Outcome {
        match self.0.get(token.as_bytes()) {
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
        formatter.debug_struct("TestTokens").field("tokens", &self.0.len()).finish_non_exhaustive()
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
            roles: BTreeMap::new(),
            scopes: Vec::new(),
        }
    }

    /// The caller's own organization, in which [`role`](Self::role) then grants.
    #[must_use]
    pub fn organization(mut self, id: impl Into<OrganizationId>) -> Self {
        id.into().as_str().clone_into(&mut self.organization);
        self
    }

    /// A role, granted in the caller's own organization.
    #[must_use]
    pub fn role(self, role: impl Into<Role>) -> Self {
        let organization = self.organization.clone();
        self.role_in(role, organization)
    }

    /// A role, granted in an organization.
    #[must_use]
    pub fn role_in(mut self, role: impl Into<Role>, organization: impl Into<OrganizationId>) -> Self {
        let organizations = self.roles.entry(role.into().to_string()).or_default();
        organizations.insert(organization.into().to_string(), "organization.test".to_owned());
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
        let own = json!({
            "active": true,
            "scope": self.scopes.join(" "),
            "urn:zitadel:iam:org:project:roles": self.roles,
            "urn:zitadel:iam:user:resourceowner:id": self.organization,
        });
        self.claims.extend(own.as_object().cloned().unwrap_or_default());
        let read = Claims::from_introspection(Value::Object(self.claims).to_string(), None);
        read.ok().flatten().expect("claims that an issuer could send")
    }
}
