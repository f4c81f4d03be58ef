//! The user who calls ZITADEL's own APIs, and the permissions of that user's roles.

use crate::model::{Id, Level, State, Token, TokenKind};

/// Each line is a role and its permissions, as a running ZITADEL v4 told them; not all roles were recorded.
const ROLES: &str = include_str!("roles.txt");
/// With this scope a token is for ZITADEL's own APIs.
const FOR_APIS: &str = "urn:zitadel:iam:org:project:id:zitadel:aud";

/// Why the caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    NoHeader,
    NoBearer,
    InvalidToken,
}

/// Why a user may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRight {
    /// The user has no role at all where it would count.
    NoMembership,
    WrongRole,
}

/// The user of a token for ZITADEL's own APIs.
pub(crate) fn caller(state: &State, authorization: Option<&str>) -> Result<Id, Unknown> {
    let authorization = authorization.ok_or(Unknown::NoHeader)?;
    let text = authorization.strip_prefix("Bearer ").ok_or(Unknown::NoBearer)?;
    let now = state.now();
    let is_it = |own: &&Token| {
        let is_for_apis = own.kind == TokenKind::Pat || own.scopes.iter().any(|scope| scope == FOR_APIS);
        own.text == text && !own.dead && is_for_apis && own.expires_at.is_none_or(|end| end > now)
    };
    let token = state.tokens.iter().find(is_it).ok_or(Unknown::InvalidToken)?;
    Ok(token.user.clone())
}

/// Whether a user has a permission in an organization, by the roles there and in the instance.
pub(crate) fn check(state: &State, user: &str, organization: &str, permission: &str) -> Result<(), NoRight> {
    check_roles(state, roles(state, user, counts_in(organization)), permission)
}

/// Whether a user has a permission in the instance.
pub(crate) fn check_instance(state: &State, user: &str, permission: &str) -> Result<(), NoRight> {
    check_roles(state, roles(state, user, |level| *level == Level::Instance), permission)
}

/// All permissions of a user in an organization, in ZITADEL's order.
pub(crate) fn permissions(state: &State, user: &str, organization: &str) -> Vec<&'static str> {
    let mut all = Vec::new();
    for role in roles(state, user, counts_in(organization)) {
        for right in permissions_of(role).filter(|right| !state.withdrawn.contains(*right)) {
            if !all.contains(&right) {
                all.push(right);
            }
        }
    }
    all
}

fn counts_in(organization: &str) -> impl Fn(&Level) -> bool {
    move |level| match level {
        Level::Instance => true,
        Level::Organization(id) => id == organization,
        Level::Project(_) => false,
    }
}

fn roles<'s>(
    state: &'s State,
    user: &str,
    counts: impl Fn(&Level) -> bool,
) -> impl Iterator<Item = &'s String> {
    state
        .memberships
        .iter()
        .filter(move |own| own.user == user && counts(&own.level))
        .flat_map(|own| &own.roles)
}

/// Whether there is such a role on a level.
pub(crate) fn is_role(level: &Level, role: &str) -> bool {
    let prefix = match level {
        Level::Instance => "IAM_",
        Level::Organization(_) => "ORG_",
        Level::Project(_) => "PROJECT_",
    };
    role.starts_with(prefix) && ROLES.lines().any(|line| line.split(' ').next() == Some(role))
}

/// The roles of a level, in ZITADEL's order.
pub(crate) fn roles_of_instance() -> impl Iterator<Item = &'static str> {
    let names = ROLES.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| name.starts_with("IAM_"))
}

fn check_roles<'s>(
    state: &State,
    roles: impl Iterator<Item = &'s String>,
    permission: &str,
) -> Result<(), NoRight> {
    let mut roles = roles.peekable();
    if roles.peek().is_none() {
        return Err(NoRight::NoMembership);
    }
    let is_withdrawn = state.withdrawn.contains(permission);
    let permits = |role: &String| permissions_of(role).any(|own| own == permission);
    (!is_withdrawn && roles.any(permits)).then_some(()).ok_or(NoRight::WrongRole)
}

fn permissions_of(role: &str) -> impl Iterator<Item = &'static str> {
    let line = ROLES.lines().find(|line| line.split(' ').next() == Some(role));
    line.into_iter().flat_map(|line| line.split(' ').skip(1))
}
