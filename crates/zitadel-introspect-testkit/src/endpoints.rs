//! The answers of each endpoint.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    claims,
    client_auth::{Credentials, Refused},
    form::Form,
    management,
    model::{State, Token, TokenKind},
    search, token,
};

/// The endpoints of the issuer, for counting and for faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`
    Discovery,
    /// `/oauth/v2/keys`
    Keys,
    /// `/oauth/v2/introspect`
    Introspection,
    /// `/oidc/v1/userinfo`
    Userinfo,
    /// `/oauth/v2/revoke`
    Revocation,
    /// `/oauth/v2/token`
    Token,
    /// `/admin/v1/events/_search`
    EventSearch,
    /// `/admin/v1/events/types/_search`
    EventTypes,
    /// The calls of ZITADEL's own APIs with which an instance is set up (feature `management`).
    Management,
}

impl Endpoint {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/.well-known/openid-configuration" => Some(Self::Discovery),
            "/oauth/v2/keys" => Some(Self::Keys),
            "/oauth/v2/introspect" => Some(Self::Introspection),
            "/oidc/v1/userinfo" => Some(Self::Userinfo),
            "/oauth/v2/revoke" => Some(Self::Revocation),
            "/oauth/v2/token" => Some(Self::Token),
            "/admin/v1/events/_search" => Some(Self::EventSearch),
            "/admin/v1/events/types/_search" => Some(Self::EventTypes),
            _ if cfg!(feature = "management") && is_management(path) => Some(Self::Management),
            _ => None,
        }
    }
}

fn is_management(path: &str) -> bool {
    ["/zitadel.", "/auth/v1/", "/management/v1/", "/admin/v1/"].iter().any(|prefix| path.starts_with(prefix))
}

/// A complete request, with the issuer for its host.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) endpoint: Endpoint,
    pub(crate) issuer: String,
    pub(crate) authorization: Option<String>,
    pub(crate) form: Option<Form>,
    pub(crate) body: Bytes,
}

impl Question {
    pub(crate) fn token(&self) -> Option<&str> {
        let bearer = self.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        self.form.as_ref().and_then(|form| form.filled("token")).or(bearer)
    }
}

pub(crate) fn answer(state: &mut State, question: &Question) -> Answer {
    match (question.endpoint, &question.method) {
        (Endpoint::Discovery, &Method::GET) => Answer::json(StatusCode::OK, &discovery(&question.issuer)),
        (Endpoint::Keys, &Method::GET) => keys(state),
        (Endpoint::Introspection, &Method::GET | &Method::POST) => introspect(state, question),
        (Endpoint::Userinfo, &Method::GET | &Method::POST) => userinfo(state, question),
        (Endpoint::Revocation, &Method::POST) => revoke(state, question),
        (Endpoint::Token, &Method::POST) => token::answer(state, question.form.as_ref(), &question.issuer),
        (Endpoint::EventSearch, &Method::POST) => {
            search::answer(state, question.authorization.as_deref(), &question.body)
        }
        (Endpoint::EventTypes, &Method::POST) => search::types(state, question.authorization.as_deref()),
        (Endpoint::Management, method) => {
            let Question { path, headers, body, .. } = question;
            management::answer(state, &management::Request { method, path, headers, body })
        }
        (Endpoint::EventSearch | Endpoint::EventTypes, _) => search::method_not_allowed(),
        _ => Answer::plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", ""),
    }
}

fn introspect(state: &State, question: &Question) -> Answer {
    let Some(form) = &question.form else {
        return Answer::oauth_error("invalid_request", Some("error parsing form"));
    };
    let credentials = match Credentials::take(form, question.authorization.as_deref()) {
        Ok(credentials) => credentials,
        Err(answer) => return *answer,
    };
    let Some(token) = form.filled("token") else {
        return Answer::oauth_error("invalid_request", Some("token missing"));
    };
    let api = match credentials.prove(state, &question.issuer) {
        Ok(api) => api,
        Err(Refused::Garbage) => return Answer::inactive(),
        Err(Refused::Unauthorized) => return Answer::oauth_error("unauthorized_client", None),
    };
    let for_us = |token: &&Token| {
        token.kind == TokenKind::Pat
            || token.audience.iter().any(|audience| *audience == api.client_id || *audience == api.project)
    };
    match live_token(state, token).filter(for_us) {
        Some(token) => {
            let issuer = &question.issuer;
            let body = claims::introspection(state, token, issuer, &api.client_id, &api.project);
            Answer::json(StatusCode::OK, &body)
        }
        None => Answer::inactive(),
    }
}

fn userinfo(state: &State, question: &Question) -> Answer {
    if let Some(token) = question.token().and_then(|token| live_token(state, token)) {
        Answer::json(StatusCode::OK, &claims::userinfo(state, token))
    } else {
        let body = json!({"error": "access_denied", "error_description": "access token invalid"});
        Answer::json(StatusCode::UNAUTHORIZED, &body)
    }
}

/// Revocation by the client that the token was issued to: a web application without a secret.
fn revoke(state: &mut State, question: &Question) -> Answer {
    let Some(form) = &question.form else {
        return Answer::oauth_error("invalid_request", Some("error parsing form"));
    };
    let (Some(text), Some(client_id)) = (form.filled("token"), form.filled("client_id")) else {
        return Answer::oauth_error("invalid_request", Some("token or client_id missing"));
    };
    let found = state.tokens.iter().find(|token| token.text == text && token.client_id == client_id).cloned();
    if let Some(token) = found {
        state.revoke(&token);
    }
    Answer::empty_json(StatusCode::OK)
}

fn keys(state: &mut State) -> Answer {
    state.signing_key();
    let keys: Vec<Value> = state.signing_keys.iter().map(|published| published.key.jwk()).collect();
    let mut answer = Answer::json(StatusCode::OK, &json!({"keys": keys}))
        .with_header(header::CACHE_CONTROL, &state.keys_cache_control);
    if state.keys_cache_control != "no-store" {
        answer.headers.remove(header::PRAGMA);
    }
    answer
}

/// An active access token: known, not ended, not expired. Refresh and ID tokens are never active.
fn live_token<'a>(state: &'a State, text: &str) -> Option<&'a Token> {
    let now = state.now();
    state.tokens.iter().find(|token| {
        token.text == text
            && !token.dead
            && matches!(token.kind, TokenKind::Pat | TokenKind::Access)
            && token.expires_at.is_none_or(|end| end > now)
    })
}

fn discovery(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/oauth/v2/authorize"),
        "token_endpoint": format!("{issuer}/oauth/v2/token"),
        "introspection_endpoint": format!("{issuer}/oauth/v2/introspect"),
        "userinfo_endpoint": format!("{issuer}/oidc/v1/userinfo"),
        "revocation_endpoint": format!("{issuer}/oauth/v2/revoke"),
        "end_session_endpoint": format!("{issuer}/oidc/v1/end_session"),
        "device_authorization_endpoint": format!("{issuer}/oauth/v2/device_authorization"),
        "jwks_uri": format!("{issuer}/oauth/v2/keys"),
        "scopes_supported": ["openid", "profile", "email", "phone", "address", "offline_access"],
        "response_types_supported": ["code", "id_token", "id_token token"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": [
            "authorization_code", "implicit", "refresh_token", "client_credentials",
            "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:device_code",
        ],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported":
            ["EdDSA", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
        "request_object_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported":
            ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256"],
        "revocation_endpoint_auth_methods_supported":
            ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
        "revocation_endpoint_auth_signing_alg_values_supported": ["RS256"],
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
        "introspection_endpoint_auth_signing_alg_values_supported": ["RS256"],
        "claims_supported": [
            "sub", "aud", "exp", "iat", "iss", "auth_time", "nonce", "acr", "amr", "c_hash", "at_hash",
            "act", "scopes", "client_id", "azp", "preferred_username", "name", "family_name", "given_name",
            "locale", "email", "email_verified", "phone_number", "phone_number_verified",
        ],
        "code_challenge_methods_supported": ["S256"],
        "ui_locales_supported": [
            "bg", "cs", "de", "en", "es", "fr", "hu", "id", "it", "ja", "ko", "mk", "nl", "pl", "pt", "ro",
            "ru", "sv", "tr", "uk", "zh",
        ],
        "request_parameter_supported": true,
        "request_uri_parameter_supported": false,
    })
}
