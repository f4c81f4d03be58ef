//! What the event feed follows, and how it fares.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    claims::Claims,
    error::feed::FeedError,
    names::{OrganizationId, ProjectId},
    verdict::{
        evict::Evict,
        memory::{Memory, Recalled},
    },
};

/// The members that ZITADEL itself puts into an introspection answer. Any other comes from an action, whose changes no
/// event tells.
const OWN_MEMBERS: [&str; 35] = [
    "active",
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "client_id",
    "scope",
    "token_type",
    "username",
    "auth_time",
    "amr",
    "acr",
    "act",
    "azp",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "gender",
    "locale",
    "picture",
    "website",
    "zoneinfo",
    "updated_at",
    "email",
    "email_verified",
    "phone_number",
    "phone_number_verified",
    "address",
];
const OWN_PREFIX: &str = "urn:zitadel:iam:";
/// The log of an action (`urn:zitadel:iam:action:{name}:log`).
const OF_ACTIONS: &str = "urn:zitadel:iam:action:";

/// From this age on a feed is not called current.
const CURRENT: Duration = Duration::from_secs(5);

/// How the event feed of a verifier fares, from [`Verifier::event_feed`](crate::Verifier::event_feed).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FeedStatus {
    /// How old the knowledge of events is; `None` if no event is known yet.
    pub age: Option<Duration>,
    /// The knowledge is less than 5 s old.
    pub is_current: bool,
    /// When the newest event happened, by the issuer's clock; `None` if no event is known yet.
    pub newest_event: Option<SystemTime>,
    /// Why the last poll failed; `None` if it did not.
    pub failure: Option<FeedError>,
    /// This verifier has the credential that reads the events. With a shared store another instance may read them all the
    /// same.
    pub is_read_here: bool,
}

/// Set when a verifier has an event feed.
#[derive(Debug)]
pub(crate) struct Followed {
    /// By this engine, and not by another instance alone.
    pub(crate) is_read_here: bool,
    holds_action_claims: bool,
    project: OnceLock<ProjectId>,
    organization: OnceLock<OrganizationId>,
    /// Where JWTs are verified locally: what has ended.
    memory: Option<Mutex<Memory>>,
    newest_event: Mutex<Option<SystemTime>>,
    failure: Mutex<Option<FeedError>>,
}

impl Followed {
    pub(crate) fn new(
        is_read_here: bool,
        holds_action_claims: bool,
        project: Option<ProjectId>,
        reads_jwts: bool,
    ) -> Self {
        let project = project.map(OnceLock::from).unwrap_or_default();
        let memory = reads_jwts.then(Mutex::default);
        Self {
            is_read_here,
            holds_action_claims,
            project,
            organization: OnceLock::new(),
            memory,
            newest_event: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Our own project, once it is known. Nothing is prolonged before that.
    pub(crate) fn project(&self) -> Option<&ProjectId> {
        self.project.get()
    }

    /// The organization of our project, once it is known.
    pub(crate) fn organization(&self) -> Option<&OrganizationId> {
        self.organization.get()
    }

    pub(crate) fn learn_organization(&self, organization: OrganizationId) {
        let _ = self.organization.set(organization);
    }

    pub(crate) fn learn_project(&self, project: ProjectId) {
        let _ = self.project.set(project);
    }

    /// Changes what is remembered for JWTs; `None` where none are verified locally.
    pub(crate) fn with_memory<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        let memory = self.memory.as_ref()?;
        Some(change(&mut memory.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What a JWT may expect.
    pub(crate) fn recall(&self, claims: &Claims) -> Recalled {
        self.with_memory(|memory| memory.recall(claims)).unwrap_or(Recalled::Unknown)
    }

    /// Evictions that an event of that time has caused.
    pub(crate) fn remember(&self, evictions: &[Evict], at: i64) {
        self.with_memory(|memory| evictions.iter().for_each(|what| memory.record(what, at)));
    }

    /// Remembers what the last poll came to.
    pub(crate) fn settle(&self, newest_event: Option<SystemTime>, failure: Option<FeedError>) {
        *self.newest_event.lock().unwrap_or_else(PoisonError::into_inner) = newest_event;
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    pub(crate) fn status(&self, age: Option<Duration>) -> FeedStatus {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let newest_event = *self.newest_event.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = age.is_some_and(|age| age < CURRENT);
        FeedStatus { age, is_current, newest_event, failure, is_read_here: self.is_read_here }
    }

    /// Whether events tell of everything that can change these claims. Also learns our project from them.
    pub(crate) fn tells_of(&self, claims: &Claims) -> bool {
        if self.project.get().is_none()
            && let Some(project) = claims.only_project()
        {
            self.learn_project(project.clone());
        }
        let is_own = |name: &str| {
            OWN_MEMBERS.contains(&name) || (name.starts_with(OWN_PREFIX) && !name.starts_with(OF_ACTIONS))
        };
        self.holds_action_claims || claims.has_only_members(is_own)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_that_an_action_made_is_not_told_of() {
        let tells_of = |holds: bool, name: &str| {
            let document = json!({"active": true, "sub": "1", "urn:zitadel:iam:user:metadata": {}, name: 1});
            let claims = Claims::from_introspection(document.to_string(), None).unwrap().unwrap();
            Followed::new(true, holds, None, false).tells_of(&claims)
        };
        assert!(tells_of(false, "exp") && tells_of(false, "urn:zitadel:iam:org:id"));
        for name in ["groups", "department", "urn:zitadel:iam:action:x:log", "Name"] {
            assert!(!tells_of(false, name) && tells_of(true, name), "{name}");
        }
    }

    #[test]
    fn our_project_is_learnt_from_the_first_answer_that_names_one() {
        let followed = Followed::new(true, false, None, false);
        let claims =
            |roles: serde_json::Value| Claims::from_introspection(roles.to_string(), None).unwrap().unwrap();
        let one = json!({"admin": {"5": "five.example"}});
        let _ = followed.tells_of(&claims(json!({"active": true})));
        let (first, second) = ("urn:zitadel:iam:org:project:7:roles", "urn:zitadel:iam:org:project:8:roles");
        let _ = followed.tells_of(&claims(json!({"active": true, first: one, second: one})));
        assert_eq!(followed.project(), None, "two are no answer");
        let _ = followed.tells_of(&claims(json!({"active": true, first: one})));
        let _ = followed.tells_of(&claims(json!({"active": true, second: one})));
        assert_eq!(followed.project(), Some(&"7".into()));
    }
}
