//! Which verdicts an event ends.

use crate::{
    names::{OrganizationId, TokenId, UserId},
    verdict::Active,
};

/// The verdicts to evict.
pub(crate) enum Evict {
    /// By `jti`, or by its part before `-at_`: the OIDC session.
    TokenId(TokenId),
    User(UserId),
    Organization(OrganizationId),
}

impl Evict {
    /// A claim that the issuer did not tell may be the one that is looked for.
    pub(crate) fn may_concern(&self, active: &Active) -> bool {
        let claims = &active.claims;
        match self {
            Self::TokenId(id) => claims.token_id().is_none_or(|own| is_or_belongs_to(own, id.as_str())),
            Self::User(id) => claims.subject().is_none_or(|own| own == id.as_str()),
            Self::Organization(id) => claims.may_be_of_organization(id.as_str()),
        }
    }
}

/// ZITADEL's token ids are `{session}-at_{token}`.
fn is_or_belongs_to(token_id: &str, id: &str) -> bool {
    token_id == id || token_id.split_once("-at_").is_some_and(|(session, _)| session == id)
}
