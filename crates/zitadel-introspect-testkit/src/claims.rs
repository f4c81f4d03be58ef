//! The claims that ZITADEL puts into each answer: introspection, userinfo, JWT access tokens and ID tokens.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::model::{ApplicationKind, Authentication, State, Token, TokenKind, User};

const ROLE_SCOPE: &str = "urn:zitadel:iam:org:project:role:";
const ALL_ROLES_SCOPE: &str = "urn:zitadel:iam:org:projects:roles";
const ORGANIZATION_SCOPE: &str = "urn:zitadel:iam:org:id:";
const DOMAIN_SCOPE: &str = "urn:zitadel:iam:org:domain:primary:";
const METADATA: &str = "urn:zitadel:iam:user:metadata";
const RESOURCE_OWNER: &str = "urn:zitadel:iam:user:resourceowner";

/// The scope that puts a project into a token's audience.
pub(crate) fn audience_scope(project: &str) -> String {
    format!("urn:zitadel:iam:org:project:id:{project}:aud")
}

/// The projects that a token's scopes put into its audience.
pub(crate) fn audience_projects(scopes: &[String]) -> Vec<String> {
    let project = |scope: &String| {
        let id = scope.strip_prefix("urn:zitadel:iam:org:project:id:")?.strip_suffix(":aud")?;
        Some(id.to_owned())
    };
    scopes.iter().filter_map(project).collect()
}

/// The active introspection answer for a token, for an API of `project`.
pub(crate) fn introspection(
    state: &State,
    token: &Token,
    issuer: &str,
    client_id: &str,
    project: &str,
) -> Value {
    let (scopes, audience) = match token.kind {
        TokenKind::Pat => (pat_scopes(state, project), vec![client_id.to_owned(), project.to_owned()]),
        _ => (token.scopes.clone(), token.audience.clone()),
    };
    let user = user(state, token);
    let mut claims = token_claims(token, issuer, &audience);
    claims.insert("active".into(), true.into());
    claims.insert("scope".into(), scopes.join(" ").into());
    claims.insert("token_type".into(), "Bearer".into());
    if token.kind != TokenKind::Pat {
        if token.authentication == Authentication::Password {
            claims.insert("amr".into(), json!(["pwd"]));
        }
        if token.authentication != Authentication::Exchange {
            claims.insert("auth_time".into(), token.issued_at.into());
        }
    }
    if has(&scopes, "profile") {
        claims.insert("username".into(), user.username.clone().into());
    }
    add_user_info(&mut claims, user, &scopes);
    add_private(&mut claims, state, user, &scopes);
    let roles = roles(state, &user.id, project, &wanted_roles(&scopes));
    if !roles.is_empty() {
        claims.insert(role_claim(project), json!(roles));
        claims.insert("urn:zitadel:iam:org:project:roles".into(), json!(roles));
    }
    claims.into()
}

/// The userinfo answer.
pub(crate) fn userinfo(state: &State, token: &Token) -> Value {
    let user = user(state, token);
    let mut claims = Map::new();
    claims.insert("sub".into(), user.id.clone().into());
    // Nobody asks for the scopes of a personal access token; no project asks here, so no role is among them.
    let of_pat = (token.kind == TokenKind::Pat).then(|| pat_scopes(state, ""));
    let scopes = of_pat.as_ref().unwrap_or(&token.scopes);
    add_user_info(&mut claims, user, scopes);
    add_private(&mut claims, state, user, scopes);
    claims.into()
}

/// The claims of a JWT access token: no scope, no name, roles only under their project and only where
/// scopes or settings ask for them.
pub(crate) fn access_token(state: &State, token: &Token) -> Value {
    let user = user(state, token);
    let mut claims = token_claims(token, &state.issuer, &token.audience);
    add_private(&mut claims, state, user, &token.scopes);
    for project in projects_to_assert(state, token) {
        let roles = roles(state, &user.id, &project, &wanted_roles(&token.scopes));
        if !roles.is_empty() {
            claims.insert(role_claim(&project), json!(roles));
        }
    }
    claims.into()
}

/// The claims of an ID token.
pub(crate) fn id_token(state: &State, token: &Token, nonce: &str, at_hash: &str, session: &str) -> Value {
    let user = user(state, token);
    let mut claims = token_claims(token, &state.issuer, &token.audience);
    for only_of_access_tokens in ["jti", "nbf", "act"] {
        claims.remove(only_of_access_tokens);
    }
    claims.insert("amr".into(), json!(["pwd"]));
    claims.insert("auth_time".into(), token.issued_at.into());
    claims.insert("azp".into(), token.client_id.clone().into());
    claims.insert("nonce".into(), nonce.into());
    claims.insert("at_hash".into(), at_hash.into());
    claims.insert("sid".into(), session.into());
    let client = state.applications.iter().find(|application| application.client_id == token.client_id);
    if matches!(client.map(|client| &client.kind), Some(ApplicationKind::Web { id_token_profile: true, .. }))
    {
        add_user_info(&mut claims, user, &token.scopes);
    }
    add_private(&mut claims, state, user, &token.scopes);
    claims.into()
}

/// `{role: {organization id: domain}}` for a user on a project, narrowed to `wanted` unless that is empty.
fn roles(
    state: &State,
    user: &str,
    project: &str,
    wanted: &BTreeSet<&str>,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let of_user =
        |grant: &&crate::model::Grant| grant.active && grant.user == user && grant.project == project;
    for grant in state.shown_grants().iter().filter(of_user) {
        for role in &grant.roles {
            if wanted.is_empty() || wanted.contains(role.as_str()) {
                let organization = state.organization(&grant.organization);
                let domains = all.entry(role.clone()).or_default();
                domains.insert(organization.id.clone(), organization.domain.clone());
            }
        }
    }
    all
}

/// The projects whose roles a JWT carries: the projects of its audience scopes if all roles are requested, and the
/// client's own project by a role scope or by the role assertion settings of project and application.
fn projects_to_assert(state: &State, token: &Token) -> BTreeSet<String> {
    let mut projects = BTreeSet::new();
    if has(&token.scopes, ALL_ROLES_SCOPE) {
        projects.extend(audience_projects(&token.scopes));
    }
    let client = state.applications.iter().find(|application| application.client_id == token.client_id);
    if let Some(client) = client {
        let project = state.projects.iter().find(|project| project.id == client.project);
        let asserts = matches!(client.kind, ApplicationKind::Web { asserts_roles: true, .. })
            && project.is_some_and(|project| project.asserts_roles);
        if asserts || !wanted_roles(&token.scopes).is_empty() {
            projects.insert(client.project.clone());
        }
    } else if !wanted_roles(&token.scopes).is_empty() {
        projects.extend(audience_projects(&token.scopes));
    }
    projects
}

fn token_claims(token: &Token, issuer: &str, audience: &[String]) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("iss".into(), issuer.into());
    claims.insert("sub".into(), token.user.clone().into());
    claims.insert("aud".into(), json!(audience));
    claims.insert("iat".into(), token.issued_at.into());
    claims.insert("nbf".into(), token.issued_at.into());
    claims.insert("jti".into(), token.id.clone().into());
    if let Some(end) = token.expires_at {
        claims.insert("exp".into(), end.into());
    }
    if token.kind != TokenKind::Pat {
        claims.insert("client_id".into(), token.client_id.clone().into());
    }
    if let Some(actor) = &token.actor {
        claims.insert("act".into(), actor.clone());
    }
    claims
}

/// The standard claims of OpenID Connect, by scope.
fn add_user_info(claims: &mut Map<String, Value>, user: &User, scopes: &[String]) {
    let mut put = |name: &str, value: Option<Value>| {
        claims.extend(value.map(|value| (name.to_owned(), value)));
    };
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let profile = user.person.clone().unwrap_or_default();
    if has(scopes, "profile") {
        let full: Vec<_> =
            [&profile.given_name, &profile.family_name].into_iter().flatten().cloned().collect();
        let name = if full.is_empty() { user.username.clone() } else { full.join(" ") };
        put("name", Some(name.into()));
        put("preferred_username", Some(user.username.clone().into()));
        put("updated_at", Some(user.updated_at.into()));
        put("given_name", text(&profile.given_name));
        put("family_name", text(&profile.family_name));
        put("nickname", text(&profile.nickname));
        put("gender", text(&profile.gender));
        put("locale", text(&profile.locale));
        put("picture", text(&profile.picture));
    }
    if has(scopes, "email") {
        put("email_verified", profile.email.as_ref().map(|_| true.into()));
        put("email", text(&profile.email));
    }
    if has(scopes, "phone") {
        put("phone_number_verified", profile.phone_number.as_ref().map(|_| true.into()));
        put("phone_number", text(&profile.phone_number));
    }
}

/// ZITADEL's own claims apart from roles, by scope.
fn add_private(claims: &mut Map<String, Value>, state: &State, user: &User, scopes: &[String]) {
    let organization = state.organization(&user.organization);
    let bound = scopes.iter().find_map(|scope| scope.strip_prefix(ORGANIZATION_SCOPE));
    if let Some(id) = bound {
        claims.insert("urn:zitadel:iam:org:id".into(), id.into());
    }
    if let Some(domain) = scopes.iter().find_map(|scope| scope.strip_prefix(DOMAIN_SCOPE)) {
        claims.insert("urn:zitadel:iam:org:domain:primary".into(), domain.into());
    }
    if bound.is_some() || has(scopes, RESOURCE_OWNER) {
        claims.insert(format!("{RESOURCE_OWNER}:id"), organization.id.clone().into());
        claims.insert(format!("{RESOURCE_OWNER}:name"), organization.name.clone().into());
        claims.insert(format!("{RESOURCE_OWNER}:primary_domain"), organization.domain.clone().into());
    }
    if has(scopes, METADATA) && !user.metadata.is_empty() {
        let encode = |(key, value): (&String, &Vec<u8>)| (key.clone(), URL_SAFE_NO_PAD.encode(value).into());
        let metadata: Map<String, Value> = user.metadata.iter().map(encode).collect();
        claims.insert(METADATA.into(), metadata.into());
    }
}

/// The scope that ZITADEL shows for a personal access token: one role scope for each role of the asking
/// API's project.
fn pat_scopes(state: &State, project: &str) -> Vec<String> {
    let roles = state.projects.iter().filter(|found| found.id == project).flat_map(|found| &found.roles);
    ["openid", "profile", METADATA, RESOURCE_OWNER]
        .map(str::to_owned)
        .into_iter()
        .chain(roles.map(|role| format!("{ROLE_SCOPE}{role}")))
        .collect()
}

fn wanted_roles(scopes: &[String]) -> BTreeSet<&str> {
    scopes.iter().filter_map(|scope| scope.strip_prefix(ROLE_SCOPE)).collect()
}

fn role_claim(project: &str) -> String {
    format!("urn:zitadel:iam:org:project:{project}:roles")
}

fn has(scopes: &[String], scope: &str) -> bool {
    scopes.iter().any(|found| found == scope)
}

fn user<'a>(state: &'a State, token: &Token) -> &'a User {
    let found = state.users.iter().find(|user| user.id == token.user);
    found.expect("a live token has a user")
}
