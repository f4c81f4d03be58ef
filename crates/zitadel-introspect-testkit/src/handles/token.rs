//! Tokens: personal access tokens, opaque and JWT access tokens, ID and refresh tokens.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    claims::{self, audience_projects},
    events::Aggregate,
    handles::project::Project,
    keys::{at_hash, random_text},
    model::{self, ApplicationKind, Id, State, TokenKind, UserState},
    shared::Shared,
};

const TWELVE_HOURS: i64 = 12 * 3600;

/// A token; it derefs to its text.
#[derive(Clone)]
pub struct Token {
    shared: Arc<Shared>,
    text: String,
    id: Id,
}

/// The tokens of a login.
#[derive(Debug)]
#[non_exhaustive]
pub struct Login {
    /// The access token: opaque, or a JWT if the application is set so.
    pub access_token: Token,
    /// The refresh token, if the scope `offline_access` was requested.
    pub refresh_token: Option<Token>,
    /// The ID token.
    pub id_token: Token,
    /// The session's id: `sid`.
    pub session: String,
    shared: Arc<Shared>,
}

/// An access token of a service user that is about to be issued.
#[derive(Debug)]
pub struct AccessTokenRequest {
    shared: Arc<Shared>,
    user: Id,
    scopes: Vec<String>,
    lifetime: i64,
    jwt: bool,
    actor: Option<Value>,
}

impl Token {
    /// The token's id: `jti`.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Revokes the token: a personal access token is removed; an access or refresh token is revoked by its client.
    pub fn revoke(&self) {
        self.shared.change(|state| {
            if let Some(token) = state.tokens.iter().find(|token| token.text == self.text).cloned() {
                state.revoke(&token);
            }
        });
    }

    /// Lets the token expire now.
    pub fn expire(&self) {
        self.shared.change(|state| {
            let now = state.now();
            let own = state.tokens.iter_mut().filter(|token| token.text == self.text);
            own.for_each(|token| token.expires_at = Some(now));
        });
    }
}

impl Deref for Token {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Login {
    /// Ends the session: all its tokens become inactive.
    pub fn end_session(&self) {
        self.shared.change(|state| state.end_session(&self.session));
    }
}

impl AccessTokenRequest {
    pub(crate) fn new(shared: &Arc<Shared>, user: &str) -> Self {
        let shared = Arc::clone(shared);
        let scopes = vec!["openid".to_owned()];
        Self { shared, user: user.to_owned(), scopes, lifetime: TWELVE_HOURS, jwt: false, actor: None }
    }

    /// Puts a project into the audience; otherwise an API of the project sees the token as inactive.
    #[must_use]
    pub fn for_project(mut self, project: &Project) -> Self {
        self.scopes.push(project.audience_scope());
        self
    }

    /// Asks for further scopes, separated by spaces.
    #[must_use]
    pub fn scopes(mut self, scopes: &str) -> Self {
        for scope in scopes.split_whitespace() {
            if !self.scopes.iter().any(|own| own == scope) {
                self.scopes.push(scope.to_owned());
            }
        }
        self
    }

    /// Sets the lifetime, in whole seconds; 12 hours unless set.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        self
    }

    /// A JWT instead of an opaque token.
    #[must_use]
    pub fn jwt(mut self) -> Self {
        self.jwt = true;
        self
    }

    /// The `act` claim, as after a token exchange (RFC 8693 section 4.1).
    #[must_use]
    pub fn actor(mut self, subject: &str) -> Self {
        self.actor = Some(json!({"sub": subject}));
        self
    }

    /// Issues the token.
    ///
    /// # Panics
    ///
    /// If the user is deactivated or locked.
    #[must_use]
    pub fn issue(self) -> Token {
        let token = self.shared.change(|state| {
            let client_id = active_user(state, &self.user).username.clone();
            let audience = audience_projects(&self.scopes);
            let mut token =
                state.new_access_token(&self.user, client_id, self.scopes, audience, self.lifetime);
            token.actor = self.actor;
            state.keep_access_token(token, self.jwt)
        });
        Token { shared: self.shared, text: token.text, id: token.id }
    }
}

pub(crate) fn new_pat(shared: &Arc<Shared>, user: &str, expires_at: Option<i64>) -> Token {
    let token = shared.change(|state| {
        active_user(state, user);
        let token = model::Token {
            id: state.new_id(),
            text: random_text(53),
            kind: TokenKind::Pat,
            user: user.to_owned(),
            client_id: String::new(),
            scopes: Vec::new(),
            audience: Vec::new(),
            issued_at: state.now(),
            expires_at,
            session: None,
            actor: None,
            dead: false,
        };
        let payload = json!({"tokenId": token.id});
        state.emit_for_user(user, "user.pat.added", Some(payload));
        state.tokens.push(token.clone());
        token
    });
    Token { shared: Arc::clone(shared), text: token.text, id: token.id }
}

pub(crate) fn log_in(shared: &Arc<Shared>, user: &str, client_id: &str, scopes: &str) -> Login {
    let scopes: Vec<String> = scopes.split_whitespace().map(str::to_owned).collect();
    let (access, refresh, id, session) = shared.change(|state| {
        active_user(state, user);
        let audience = state.audience_of(client_id, &scopes);
        let jwt = state.applications.iter().any(|application| {
            application.client_id == client_id
                && matches!(application.kind, ApplicationKind::Web { jwt: true, .. })
        });
        let session = state.new_id();
        state.sessions.insert(session.clone());
        let wants_refresh = scopes.iter().any(|scope| scope == "offline_access");
        let mut access = state.new_access_token(user, client_id.to_owned(), scopes, audience, TWELVE_HOURS);
        access.session = Some(session.clone());
        let access = state.keep_access_token(access, jwt);
        let refresh = wants_refresh.then(|| state.keep_sibling(&access, TokenKind::Refresh, random_text(53)));
        let claims = claims::id_token(state, &access, "n-1", &at_hash(&access.text), &session);
        let text = state.signing_key().sign(&claims);
        let id = state.keep_sibling(&access, TokenKind::Id, text);
        (access, refresh, id, session)
    });
    let handle = |token: model::Token| Token { shared: Arc::clone(shared), text: token.text, id: token.id };
    Login {
        access_token: handle(access),
        refresh_token: refresh.map(handle),
        id_token: handle(id),
        session,
        shared: Arc::clone(shared),
    }
}

impl State {
    /// Revokes one token, or with a refresh token all tokens of its OIDC session.
    pub(crate) fn revoke(&mut self, token: &model::Token) {
        let oidc_session = token.id.split("-at_").next().unwrap_or_default().to_owned();
        let all = token.kind == TokenKind::Refresh;
        for other in &mut self.tokens {
            if other.text == token.text || (all && other.id == token.id) {
                other.dead = true;
            }
        }
        let owner = self.user(&token.user).organization.clone();
        match token.kind {
            TokenKind::Pat => {
                let payload = json!({"tokenId": token.id});
                self.emit_for_user(&token.user, "user.pat.removed", Some(payload));
            }
            TokenKind::Access | TokenKind::Refresh => {
                let event = if all {
                    "oidc_session.refresh_token.revoked"
                } else {
                    "oidc_session.access_token.revoked"
                };
                let aggregate = Aggregate { id: oidc_session, kind: "oidc_session", owner };
                self.emit_by(None, aggregate, event, Some(json!({})));
            }
            TokenKind::Id => {}
        }
    }

    fn end_session(&mut self, session: &str) {
        if !self.sessions.remove(session) {
            return;
        }
        for token in &mut self.tokens {
            token.dead |= token.session.as_deref() == Some(session);
        }
        let owner = self.instance.clone();
        let aggregate = Aggregate { id: session.to_owned(), kind: "session", owner };
        let payload = json!({"triggerOrigin": self.issuer});
        self.emit(aggregate, "session.terminated", Some(payload));
    }

    fn new_access_token(
        &mut self,
        user: &str,
        client_id: String,
        scopes: Vec<String>,
        audience: Vec<String>,
        lifetime: i64,
    ) -> model::Token {
        let (session, token, now) = (self.new_id(), self.new_id(), self.now());
        model::Token {
            id: format!("V2_{session}-at_{token}"),
            text: String::new(),
            kind: TokenKind::Access,
            user: user.to_owned(),
            client_id,
            scopes,
            audience,
            issued_at: now,
            expires_at: Some(now.saturating_add(lifetime)),
            session: None,
            actor: None,
            dead: false,
        }
    }

    /// Gives the token its text and stores the token.
    fn keep_access_token(&mut self, mut token: model::Token, jwt: bool) -> model::Token {
        token.text = if jwt {
            let claims = claims::access_token(self, &token);
            self.signing_key().sign(&claims)
        } else {
            random_text(53)
        };
        self.tokens.push(token.clone());
        token
    }

    fn keep_sibling(&mut self, access: &model::Token, kind: TokenKind, text: String) -> model::Token {
        let sibling = model::Token { text, kind, ..access.clone() };
        self.tokens.push(sibling.clone());
        sibling
    }

    /// The audience of a person's token: all applications of the client's project, the project itself, and the projects
    /// that audience scopes name.
    fn audience_of(&self, client_id: &str, scopes: &[String]) -> Vec<String> {
        let client = self.applications.iter().find(|application| application.client_id == client_id);
        let project = client.map(|client| client.project.clone()).unwrap_or_default();
        let of_project = self.applications.iter().filter(|application| application.project == project);
        let mut audience: Vec<String> = of_project.map(|application| application.client_id.clone()).collect();
        audience.push(project);
        for further in audience_projects(scopes) {
            if !audience.contains(&further) {
                audience.push(further);
            }
        }
        audience
    }
}

fn active_user<'a>(state: &'a mut State, id: &str) -> &'a model::User {
    let user = state.user(id);
    assert!(user.state == UserState::Active, "a user that is not active gets no token");
    user
}
