//! Which verdicts an event ends.

use crate::{
    names::{OrganizationId, ProjectId, Role, TokenId, UserId},
    verdict::{Active, cache::bounded::Key},
};

/// The verdicts to evict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Evict {
    Token(Key),
    /// By `jti`, or by its part before `-at_`: the OIDC session.
    TokenId(TokenId),
    User(UserId),
    Organization(OrganizationId),
    /// A role on a project, as its key says.
    Role(ProjectId, Role),
    All,
}

impl Evict {
    /// If the issuer did not send the claim, the verdict may be affected, so it is evicted as well.
    pub(crate) fn may_concern(&self, key: &Key, active: &Active) -> bool {
        let claims = &active.claims;
        match self {
            Self::Token(own) => own == key,
            Self::All => true,
            Self::TokenId(id) => claims.token_id().is_none_or(|own| is_or_belongs_to(own, id.as_str())),
            Self::User(id) => claims.subject().is_none_or(|own| own == id.as_str()),
            Self::Organization(id) => claims.may_be_of_organization(id.as_str()),
            Self::Role(project, role) => claims.may_have_role(project, role.as_str()),
        }
    }
}

/// ZITADEL's token ids are `{session}-at_{token}`.
fn is_or_belongs_to(token_id: &str, id: &str) -> bool {
    token_id == id || token_id.split_once("-at_").is_some_and(|(session, _)| session == id)
}
