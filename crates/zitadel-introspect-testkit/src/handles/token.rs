//! Tokens: personal access tokens, opaque and JWT access tokens, ID and refresh tokens.

use std::{fmt, io, ops::Deref, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    claims::{self, audience_projects},
    events::Aggregate,
    handles::project::Project,
    keys::{at_hash, random_text},
    model::{self, ApplicationKind, Authentication, Id, State, TokenKind, UserState},
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

    /// Writes the token to a new file that only this user can read.
    ///
    /// # Errors
    ///
    /// The system's error, also if the file already exists.
    pub fn write_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        crate::secret_file::create(path.as_ref(), &self.text)
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
    /// Uses the refresh token: gives a new access token and ends the one before.
    ///
    /// # Panics
    ///
    /// If the scope `offline_access` was not requested, or the login has ended.
    pub fn refresh(&mut self) -> &Token {
        assert!(self.refresh_token.is_some(), "the scope `offline_access` gives a refresh token");
        let token = self.shared.change(|state| state.refresh(&self.access_token.text));
        self.access_token = Token { shared: Arc::clone(&self.shared), text: token.text, id: token.id };
        &self.access_token
    }

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
        let issuer = self.shared.change(|state| state.issuer.clone());
        self.actor = Some(json!({"iss": issuer, "sub": subject}));
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
            if self.actor.is_some() {
                token.authentication = Authentication::Exchange;
            }
            token.actor = self.actor;
            let token = state.keep_access_token(token, self.jwt);
            state.emit_oidc_session(&token);
            state.emit_access_token(
                &token,
                if token.actor.is_some() { "exchange" } else { "client_credentials" },
            );
            token
        });
        Token { shared: self.shared, text: token.text, id: token.id }
    }
}

pub(crate) fn new_pat(shared: &Arc<Shared>, user: &str, expires_at: Option<i64>) -> Token {
    let token = shared.change(|state| {
        active_user(state, user);
        state.add_pat(user, expires_at, None)
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
        state.emit_session(&session, user);
        state.emit_oidc_session(&access);
        state.emit_access_token(&access, "auth_request");
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
        let oidc_session = session_of(&token.id);
        let all = token.kind == TokenKind::Refresh;
        for other in &mut self.tokens {
            if other.text == token.text || (all && session_of(&other.id) == oidc_session) {
                other.dead = true;
            }
        }
        // The tokens of a user who was removed are dead already, and nothing tells of them.
        let Some(user) = self.users.iter().find(|user| user.id == token.user) else { return };
        let owner = user.organization.clone();
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

    fn refresh(&mut self, access: &str) -> model::Token {
        let before = self.tokens.iter_mut().find(|token| token.text == access && !token.dead);
        let before = before.expect("a token that has not ended");
        before.dead = true;
        let (before, id) = (before.clone(), self.new_id());
        let session = session_of(&before.id);
        let (now, jwt) = (self.now(), before.text.contains('.'));
        let token = model::Token {
            id: format!("{session}-at_{id}"),
            issued_at: now,
            expires_at: Some(now.saturating_add(TWELVE_HOURS)),
            dead: false,
            ..before
        };
        // The refresh token stays with the session.
        for other in self.tokens.iter_mut().filter(|other| other.kind == TokenKind::Refresh) {
            if session_of(&other.id) == session {
                other.id.clone_from(&token.id);
            }
        }
        let token = self.keep_access_token(token, jwt);
        self.emit_access_token(&token, "refresh");
        let owner = self.user(&token.user).organization.clone();
        let aggregate = Aggregate { id: session, kind: "oidc_session", owner };
        self.emit_by(
            None,
            aggregate,
            "oidc_session.refresh_token.renewed",
            Some(json!({"id": format!("rt_{id}")})),
        );
        token
    }

    /// A new access token of an OIDC session.
    fn emit_access_token(&mut self, token: &model::Token, reason: &str) {
        let owner = self.user(&token.user).organization.clone();
        let aggregate = Aggregate { id: session_of(&token.id), kind: "oidc_session", owner };
        let id = token.id.split_once("-at_").map(|(_, id)| format!("at_{id}")).unwrap_or_default();
        let lifetime = token.expires_at.unwrap_or_default().saturating_sub(token.issued_at);
        let payload = json!({"id": id, "scope": token.scopes, "reason": reason,
            "lifetime": lifetime.saturating_mul(1_000_000_000)});
        self.emit_by(None, aggregate, "oidc_session.access_token.added", Some(payload));
    }

    /// A new OIDC session, by a login or without one.
    fn emit_oidc_session(&mut self, token: &model::Token) {
        let user = self.user(&token.user).organization.clone();
        let session = token.session.clone().unwrap_or_default();
        let payload = json!({"userID": token.user, "userResourceOwner": user, "sessionID": session,
            "clientID": token.client_id, "audience": token.audience, "scope": token.scopes});
        let aggregate = Aggregate { id: session_of(&token.id), kind: "oidc_session", owner: user };
        self.emit_by(None, aggregate, "oidc_session.added", Some(payload));
    }

    fn emit_session(&mut self, session: &str, user: &str) {
        let owner = self.instance.clone();
        let aggregate = || Aggregate { id: session.to_owned(), kind: "session", owner: owner.clone() };
        let organization = self.user(user).organization.clone();
        self.emit(aggregate(), "session.added", Some(json!({})));
        let payload = json!({"userID": user, "userResourceOwner": organization});
        self.emit(aggregate(), "session.user.checked", Some(payload));
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
            authentication: Authentication::Password,
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

/// The OIDC session of an access token.
fn session_of(token_id: &str) -> Id {
    token_id.split("-at_").next().unwrap_or_default().to_owned()
}

fn active_user<'a>(state: &'a mut State, id: &str) -> &'a model::User {
    let user = state.user(id);
    assert!(user.state == UserState::Active, "a user that is not active gets no token");
    user
}
