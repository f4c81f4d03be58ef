//! Which verdicts an event ends.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    claims::Claims,
    names::{OrganizationId, ProjectId, Role, TokenId, UserId},
    seal::Name,
    verdict::{Active, cache::bounded::Key},
};

/// The verdicts to evict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evict {
    /// Of this process alone.
    #[serde(skip)]
    Token(Key),
    /// As `Token`, by the name that all instances know it by.
    Name(Name),
    /// By `jti`, or by its part before `-at_`: the OIDC session.
    TokenId(TokenId),
    /// The tokens of an OIDC session, but not this one: a refresh ends its predecessors.
    Predecessors(TokenId),
    User(UserId),
    /// The users of an organization, and who has a role from it.
    Organization(OrganizationId),
    /// The users of an organization, where the verdict names it.
    UsersOf(OrganizationId),
    /// Who has a role that an organization granted.
    RolesFrom(OrganizationId),
    /// A role on a project, as its key says.
    Role(ProjectId, Role),
    /// Any role on a project.
    AnyRole(ProjectId),
    /// All tokens of OIDC sessions; personal access tokens stay.
    OidcSessions,
    /// All tokens that an application was given by ZITADEL's first login; they look like personal access tokens but name
    /// a client.
    FirstLogin,
    /// All that could be verified locally.
    Jwts,
    /// Who has a claim of groups.
    Groups,
    All,
}

/// When the evictions of an event are repeated, since what ZITADEL answers may lag behind its events; those of many
/// verdicts only once.
const ECHOES: [(Duration, bool); 3] =
    [(Duration::from_secs(1), false), (Duration::from_secs(5), true), (Duration::from_secs(60), false)];

/// When to evict again, and what.
pub(crate) fn echoes(evictions: &[Evict]) -> impl Iterator<Item = (Duration, Vec<Evict>)> {
    ECHOES.into_iter().map(|(after, with_wide)| {
        let due = evictions.iter().filter(|what| with_wide || !what.is_wide());
        (after, due.cloned().collect())
    })
}

/// How ZITADEL's token ids of OIDC sessions begin.
const OIDC_SESSION: &str = "V2_";

impl Evict {
    /// If the issuer did not send the claim, the verdict may be affected, so it is evicted as well.
    pub(crate) fn may_concern(&self, key: &Key, active: &Active) -> bool {
        match self {
            Self::Token(own) => own == key,
            Self::Name(name) => active.name() == Some(name),
            Self::Jwts => active.is_jwt,
            _ => self.may_concern_claims(&active.claims),
        }
    }

    /// Whether it ends the verdicts of many users.
    fn is_wide(&self) -> bool {
        matches!(
            self,
            Self::All | Self::OidcSessions | Self::FirstLogin | Self::AnyRole(_) | Self::Jwts | Self::Groups
        )
    }

    /// As [`may_concern`](Self::may_concern), for a JWT on which there is no verdict yet.
    pub(crate) fn may_concern_jwt(&self, claims: &Claims) -> bool {
        match self {
            Self::Token(_) | Self::Name(_) => false,
            Self::Jwts => true,
            _ => self.may_concern_claims(claims),
        }
    }

    fn may_concern_claims(&self, claims: &Claims) -> bool {
        match self {
            Self::Token(_) | Self::Name(_) | Self::Jwts => false,
            Self::All => true,
            Self::TokenId(id) => {
                claims.token_id().is_none_or(|own| own == id.as_str() || session_of(own) == Some(id.as_str()))
            }
            Self::Predecessors(newest) => claims
                .token_id()
                .is_none_or(|own| own != newest.as_str() && session_of(own) == session_of(newest.as_str())),
            Self::User(id) => claims.subject().is_none_or(|own| own == id.as_str()),
            Self::Organization(id) => claims.may_be_of_organization(id.as_str()),
            Self::UsersOf(id) => claims.organization_id() == Some(id.as_str()),
            Self::RolesFrom(id) => claims.has_role_from(id.as_str()),
            Self::Role(project, role) => claims.may_have_role(project, role.as_str()),
            Self::AnyRole(project) => claims.may_have_any_role(project),
            Self::OidcSessions => claims.token_id().is_none_or(|own| own.starts_with(OIDC_SESSION)),
            Self::FirstLogin => is_of_first_login(claims),
            Self::Groups => !claims.groups().is_empty(),
        }
    }
}

fn is_of_first_login(claims: &Claims) -> bool {
    claims.token_id().is_none_or(|own| !own.starts_with(OIDC_SESSION)) && claims.client_id().is_some()
}

/// ZITADEL's token ids are `{session}-at_{token}`.
pub(crate) fn session_of(token_id: &str) -> Option<&str> {
    token_id.split_once("-at_").map(|(session, _)| session)
}

/// Hashes of what precise evictions go by. They stand beside a held verdict, so that most verdicts need not be read:
/// those of a large cache are in no cache of the processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    user: u32,
    token: u32,
    session: u32,
}

/// Something that the issuer did not name: every eviction may mean it.
const UNKNOWN: u32 = 0;

impl Marks {
    pub(crate) fn of(active: &Active) -> Self {
        let of = |text: Option<&str>| text.map_or(UNKNOWN, mark);
        let token = active.claims.token_id();
        // A token that belongs to no session has the mark of its id twice.
        let session = token.map(|token| session_of(token).unwrap_or(token));
        Self { user: of(active.claims.subject()), token: of(token), session: of(session) }
    }
}

/// Never [`UNKNOWN`].
#[expect(
    clippy::cast_possible_truncation,
    reason = "equal marks are compared once more, by what they stand for"
)]
fn mark(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    (hasher.finish() as u32).max(1)
}

/// Several evictions that cost one look at each verdict.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Marks of the users, and of the tokens and sessions, that are evicted.
    user_marks: HashSet<u32>,
    token_marks: HashSet<u32>,
    tokens: HashSet<Key>,
    token_ids: HashSet<TokenId>,
    users: HashSet<UserId>,
    /// By OIDC session, the newest token.
    newest: HashMap<String, TokenId>,
    /// All others; there are few.
    rest: Vec<Evict>,
}

impl Batch {
    pub(crate) fn of(evictions: &[Evict]) -> Self {
        let mut batch = Self::default();
        for what in evictions {
            match what {
                Evict::User(id) => {
                    batch.user_marks.insert(mark(id.as_str()));
                }
                Evict::TokenId(id) => {
                    batch.token_marks.insert(mark(id.as_str()));
                }
                Evict::Predecessors(id) => {
                    let session = session_of(id.as_str()).unwrap_or_default();
                    batch.token_marks.insert(mark(session));
                }
                _ => {}
            }
            match what {
                Evict::Token(key) => drop(batch.tokens.insert(*key)),
                Evict::TokenId(id) => drop(batch.token_ids.insert(id.clone())),
                Evict::User(id) => drop(batch.users.insert(id.clone())),
                Evict::Predecessors(id) if session_of(id.as_str()).is_some() => {
                    let session = session_of(id.as_str()).unwrap_or_default().to_owned();
                    let before = batch.newest.insert(session.clone(), id.clone());
                    if before.is_some_and(|before| before != *id) {
                        // Which one is the newest is not known.
                        batch.token_ids.insert(session.into());
                    }
                }
                other if batch.rest.contains(other) => {}
                other => batch.rest.push(other.clone()),
            }
        }
        batch
    }

    /// Whether the verdict must be read at all.
    pub(crate) fn may_mean(&self, key: &Key, marks: Marks) -> bool {
        let names_tokens = !self.token_marks.is_empty();
        let is_token = |mark: u32| mark == UNKNOWN || self.token_marks.contains(&mark);
        let is_user = |mark: u32| mark == UNKNOWN || self.user_marks.contains(&mark);
        !self.rest.is_empty()
            || (names_tokens && (is_token(marks.token) || is_token(marks.session)))
            || (!self.user_marks.is_empty() && is_user(marks.user))
            || (!self.tokens.is_empty() && self.tokens.contains(key))
    }

    /// Whether one of the evictions may concern the verdict.
    pub(crate) fn may_concern(&self, key: &Key, active: &Active) -> bool {
        let claims = &active.claims;
        let is_token = |own: &str| {
            let session = session_of(own);
            self.token_ids.contains(own)
                || session.is_some_and(|session| self.token_ids.contains(session))
                || session.and_then(|session| self.newest.get(session)).is_some_and(|newest| *newest != *own)
        };
        let names_tokens = !self.token_ids.is_empty() || !self.newest.is_empty();
        self.tokens.contains(key)
            || (names_tokens && claims.token_id().is_none_or(is_token))
            || (!self.users.is_empty() && claims.subject().is_none_or(|own| self.users.contains(own)))
            || self.rest.iter().any(|what| what.may_concern(key, active))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::verdict::{Sent, cache::bounded::Keyer, ledger::Position};

    fn active(key: &Key, user: Option<&str>, token: Option<&str>, client: Option<&str>) -> Active {
        let roles = json!({"admin": {"1": "one.example"}});
        let document = json!({"active": true, "sub": user, "jti": token, "client_id": client,
            "urn:zitadel:iam:org:project:7:roles": roles, "urn:zitadel:iam:org:project:roles": roles});
        let project = ProjectId::from("7");
        let claims = Claims::from_introspection(document.to_string(), Some(&project)).unwrap().unwrap();
        let sent = Sent { at: std::time::Instant::now(), position: Position::default() };
        Active::answered(claims, sent, key, false)
    }

    #[test]
    fn each_kind_concerns_what_it_names_and_what_is_not_known() {
        let key = Keyer::new().key(b"token");
        let session = active(&key, Some("ada"), Some("V2_5-at_1"), Some("app"));
        let pat = active(&key, Some("bot"), Some("77"), None);
        let first = active(&key, Some("eve"), Some("78"), Some("app"));
        let unknown = active(&key, None, None, None);
        let concerned =
            |what: &Evict| [&session, &pat, &first, &unknown].map(|active| what.may_concern(&key, active));
        for (what, expected) in [
            (Evict::Token(key), [true; 4]),
            (Evict::All, [true; 4]),
            (Evict::TokenId("V2_5-at_1".into()), [true, false, false, true]),
            (Evict::TokenId("V2_5".into()), [true, false, false, true]),
            (Evict::TokenId("77".into()), [false, true, false, true]),
            (Evict::Predecessors("V2_5-at_2".into()), [true, false, false, true]),
            (Evict::Predecessors("V2_5-at_1".into()), [false, false, false, true]),
            (Evict::User("bot".into()), [false, true, false, true]),
            (Evict::RolesFrom("1".into()), [true; 4]),
            (Evict::RolesFrom("2".into()), [false; 4]),
            (Evict::Role("7".into(), "admin".into()), [true; 4]),
            (Evict::Role("7".into(), "viewer".into()), [false; 4]),
            (Evict::AnyRole("7".into()), [true; 4]),
            (Evict::OidcSessions, [true, false, false, true]),
            (Evict::FirstLogin, [false, false, true, false]),
        ] {
            assert_eq!(concerned(&what), expected, "{what:?}");
            let batch = Batch::of(std::slice::from_ref(&what));
            let by_batch = [&session, &pat, &first, &unknown]
                .map(|active| batch.may_mean(&key, Marks::of(active)) && batch.may_concern(&key, active));
            assert_eq!(by_batch, expected, "{what:?}");
        }
    }

    proptest! {
        #[test]
        fn a_batch_evicts_what_its_evictions_evict(
            kinds in proptest::collection::vec((0..8_u8, 0..3_u8), 0..6), user in 0..3_u8, token in 0..3_u8,
        ) {
            let key = Keyer::new().key(b"token");
            let active = active(&key, Some(&format!("u{user}")), Some(&format!("V2_{token}-at_{user}")), None);
            let evictions: Vec<Evict> = kinds.iter().map(|(kind, number)| match kind {
                0 => Evict::TokenId(format!("V2_{number}").into()),
                1 => Evict::TokenId(format!("V2_{number}-at_1").into()),
                2 => Evict::Predecessors(format!("V2_{number}-at_1").into()),
                3 => Evict::User(format!("u{number}").into()),
                4 => Evict::RolesFrom(number.to_string().into()),
                5 => Evict::Role("7".into(), format!("r{number}").into()),
                6 => Evict::AnyRole("8".into()),
                _ => Evict::FirstLogin,
            }).collect();
            let newest: HashMap<_, _> = evictions.iter().filter_map(|what| match what {
                Evict::Predecessors(id) => Some((session_of(id.as_str())?.to_owned(), id.clone())),
                _ => None,
            }).collect();
            prop_assert!(newest.len() <= 3);
            let one_by_one = evictions.iter().any(|what| what.may_concern(&key, &active));
            let batch = Batch::of(&evictions);
            let is_meant = batch.may_mean(&key, Marks::of(&active));
            prop_assert_eq!(is_meant && batch.may_concern(&key, &active), one_by_one);
        }
    }
}
