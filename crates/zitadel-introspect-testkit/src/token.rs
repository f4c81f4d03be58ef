//! The token endpoint: the JWT profile grant of a service user (RFC 7523 section 2.1).

use http::StatusCode;
use serde_json::json;

use crate::{
    answer::Answer,
    client_auth::{ASSERTION_LIFE, Signed},
    form::Form,
    keys::random_text,
    model::{Authentication, State, Token, TokenKind, UserState},
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// In seconds.
const LIFETIME: i64 = 12 * 3600;

pub(crate) fn answer(state: &mut State, form: Option<&Form>, issuer: &str) -> Answer {
    let Some(form) = form else {
        return Answer::oauth_error("invalid_request", Some("error parsing form"));
    };
    if form.get("grant_type") != Some(GRANT) {
        return Answer::oauth_error("unsupported_grant_type", None);
    }
    let Some(user) = form.filled("assertion").and_then(|assertion| proven(state, assertion, issuer)) else {
        return Answer::oauth_error("invalid_request", Some("assertion invalid"));
    };
    let scopes: Vec<String> =
        form.get("scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let now = state.now();
    let (session, id) = (state.new_id(), state.new_id());
    let client_id = state.user(&user).username.clone();
    let token = Token {
        id: format!("V2_{session}-at_{id}"),
        text: random_text(53),
        kind: TokenKind::Access,
        user,
        client_id,
        audience: crate::claims::audience_projects(&scopes),
        scopes,
        issued_at: now,
        expires_at: Some(now + LIFETIME),
        session: None,
        actor: None,
        authentication: Authentication::Assertion,
        dead: false,
    };
    let body = json!({"access_token": token.text, "token_type": "Bearer", "expires_in": LIFETIME});
    state.tokens.push(token);
    Answer::json(StatusCode::OK, &body)
}

/// The user whose key has signed the assertion.
fn proven(state: &State, assertion: &str, issuer: &str) -> Option<String> {
    let signed = Signed::read(assertion).ok()?;
    let (subject, key_id) = signed.subject_and_key()?;
    let own = state.user_keys.iter().find(|own| own.user == subject && own.key.id == key_id)?;
    if state.has_ended(&key_id) {
        return None;
    }
    let is_active = state.users.iter().any(|user| user.id == subject && user.state == UserState::Active);
    let is_right = signed.is_timely(state.now(), ASSERTION_LIFE)
        && signed.is_for(issuer)
        && signed.is_signed_by(&own.key);
    (is_active && is_right).then_some(subject)
}
