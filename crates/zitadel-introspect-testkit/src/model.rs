//! The state of the instance: what ZITADEL would keep in its database.

mod actions;
mod members;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    events::{Aggregate, Event, Target, Webhooks},
    keys::{Algorithm, SigningKey},
};

pub(crate) use self::{
    actions::{ActionTarget, Execution, On},
    members::{Level, Membership},
};

pub(crate) type Id = String;

pub(crate) struct State {
    pub(crate) issuer: String,
    /// How far the instance's clock is ahead of the machine's, in seconds.
    pub(crate) clock_ahead: i64,
    pub(crate) next_id: u64,
    pub(crate) rsa_keys: usize,
    pub(crate) instance: Id,
    pub(crate) administrator: Id,
    pub(crate) organizations: Vec<Organization>,
    pub(crate) projects: Vec<Project>,
    pub(crate) applications: Vec<Application>,
    pub(crate) users: Vec<User>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) sessions: BTreeSet<Id>,
    pub(crate) signing_keys: Vec<PublishedKey>,
    pub(crate) keys_cache_control: String,
    pub(crate) events: Vec<Event>,
    pub(crate) sequences: BTreeMap<Id, u64>,
    /// The time of the change under way, in microseconds: all its events share it.
    pub(crate) push: Option<i64>,
    /// The roles of administrators.
    pub(crate) memberships: Vec<Membership>,
    /// Permissions that no caller has, whatever the role.
    pub(crate) withdrawn: BTreeSet<String>,
    /// Who makes the change under way, where it is not the instance's administrator.
    pub(crate) editor: Option<Id>,
    pub(crate) births: BTreeMap<Id, Birth>,
    /// The expiration dates of keys and tokens, as they were asked for.
    pub(crate) ends: BTreeMap<Id, String>,
    /// What was removed and is still known.
    pub(crate) removed: BTreeSet<Id>,
    /// How long lists do not show a new thing.
    pub(crate) list_lag: Duration,
    /// The display names and groups of roles, by the role.
    pub(crate) role_texts: BTreeMap<(Id, &'static str), String>,
    pub(crate) targets: Vec<ActionTarget>,
    pub(crate) executions: Vec<Execution>,
    pub(crate) user_keys: Vec<UserKey>,
    /// When the event search shows an event; `None` for never.
    pub(crate) event_delay: Option<Duration>,
    pub(crate) webhooks: Webhooks,
    /// Types that ZITADEL v4 does not have.
    pub(crate) event_types: Vec<String>,
    pub(crate) grant_lag: Duration,
    /// The grants as introspection shows them until an instant, the oldest first.
    pub(crate) grants_before: VecDeque<(Instant, Vec<Grant>)>,
}

/// When a thing was made and changed.
#[derive(Clone, Copy)]
pub(crate) struct Birth {
    pub(crate) at: Instant,
    /// Microseconds since 1970.
    pub(crate) created: i64,
    pub(crate) changed: i64,
}

/// A key of a service user.
pub(crate) struct UserKey {
    pub(crate) user: Id,
    pub(crate) key: SigningKey,
}

pub(crate) struct Organization {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) domain: String,
}

pub(crate) struct Project {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) organization: Id,
    pub(crate) roles: Vec<String>,
    pub(crate) granted_to: BTreeSet<Id>,
    pub(crate) asserts_roles: bool,
    pub(crate) active: bool,
}

pub(crate) struct Application {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) project: Id,
    pub(crate) kind: ApplicationKind,
    pub(crate) active: bool,
}

pub(crate) enum ApplicationKind {
    /// An API that authenticates by signed assertions.
    KeyApi { keys: Vec<SigningKey> },
    /// An API that authenticates by Basic.
    SecretApi { secret: String },
    /// An application that people log in to, without a secret (PKCE).
    Web { jwt: bool, asserts_roles: bool, id_token_profile: bool },
}

pub(crate) struct User {
    pub(crate) id: Id,
    pub(crate) username: String,
    /// Of a service user.
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) organization: Id,
    pub(crate) person: Option<Profile>,
    pub(crate) state: UserState,
    pub(crate) metadata: BTreeMap<String, Vec<u8>>,
    pub(crate) updated_at: i64,
}

/// The profile of a person in ZITADEL. Every field is optional in answers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Profile {
    /// `given_name`.
    pub given_name: Option<String>,
    /// `family_name`.
    pub family_name: Option<String>,
    /// `nickname`.
    pub nickname: Option<String>,
    /// `gender`.
    pub gender: Option<String>,
    /// `locale`.
    pub locale: Option<String>,
    /// `picture`.
    pub picture: Option<String>,
    /// `email`, which counts as verified.
    pub email: Option<String>,
    /// `phone_number`, which counts as verified.
    pub phone_number: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserState {
    Active,
    Deactivated,
    Locked,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) id: Id,
    pub(crate) user: Id,
    pub(crate) project: Id,
    pub(crate) organization: Id,
    pub(crate) roles: Vec<String>,
    pub(crate) active: bool,
}

#[derive(Clone)]
pub(crate) struct Token {
    /// `jti`.
    pub(crate) id: Id,
    pub(crate) text: String,
    pub(crate) kind: TokenKind,
    pub(crate) user: Id,
    pub(crate) client_id: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) session: Option<Id>,
    pub(crate) actor: Option<Value>,
    pub(crate) authentication: Authentication,
    pub(crate) dead: bool,
}

/// How the user of a token has authenticated: it decides `amr` and `auth_time`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authentication {
    Password,
    /// By an assertion that a key has signed.
    Assertion,
    /// Another user acts for this one.
    Exchange,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    Pat,
    Access,
    Refresh,
    Id,
}

pub(crate) struct PublishedKey {
    pub(crate) key: SigningKey,
    pub(crate) signs: bool,
}

impl State {
    /// Records an event made by the caller of the change under way, or by the instance's administrator.
    pub(crate) fn emit(&mut self, aggregate: Aggregate, event_type: &'static str, payload: Option<Value>) {
        let user = Some(self.editor.as_ref().unwrap_or(&self.administrator).clone());
        self.emit_by(user, aggregate, event_type, payload);
    }

    pub(crate) fn emit_by(
        &mut self,
        user_id: Option<Id>,
        aggregate: Aggregate,
        event_type: &'static str,
        payload: Option<Value>,
    ) {
        let sequence = self.sequences.entry(aggregate.id.clone()).or_default();
        *sequence += 1;
        let sequence = *sequence;
        let created = self.time_of_push();
        let time = UNIX_EPOCH + Duration::from_micros(created.unsigned_abs());
        let visible_from = self.event_delay.map(|delay| Instant::now() + delay);
        self.events.push(Event {
            aggregate_id: aggregate.id,
            aggregate_type: aggregate.kind,
            resource_owner: aggregate.owner,
            instance_id: self.instance.clone(),
            version: if aggregate.kind == "user" { "v2" } else { "v1" },
            sequence,
            event_type,
            created_at: humantime::format_rfc3339_micros(time).to_string(),
            user_id,
            payload,
            created,
            visible_from,
        });
    }

    /// Two changes never share a time, and no time is before an earlier one.
    pub(crate) fn time_of_push(&mut self) -> i64 {
        if let Some(time) = self.push {
            return time;
        }
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = i64::try_from(machine).unwrap_or(i64::MAX).saturating_add(self.clock_ahead * 1_000_000);
        let last = self.events.last().map_or(0, |event| event.created);
        *self.push.insert(now.max(last + 1))
    }

    /// The targets of the execution that matches an event best. Only those on this machine are really called.
    pub(crate) fn called_for(&self, event: &str) -> Vec<Target> {
        let fits = |own: &&Execution| own.on.fitness(event).is_some();
        let best = self.executions.iter().filter(fits).max_by_key(|own| own.on.fitness(event));
        let ids = best.map_or(&[][..], |best| &best.targets);
        let targets = ids.iter().filter_map(|id| self.targets.iter().find(|own| own.id == *id));
        targets.filter_map(|own| Target::on_this_machine(&own.endpoint, &own.signing_key)).collect()
    }

    /// The grants as introspection sees them: behind by the lag.
    pub(crate) fn shown_grants(&self) -> &[Grant] {
        let now = Instant::now();
        self.grants_before.iter().find(|(until, _)| *until > now).map_or(&self.grants, |(_, grants)| grants)
    }
}

impl Application {
    pub(crate) fn keys(&mut self) -> &mut Vec<SigningKey> {
        match &mut self.kind {
            ApplicationKind::KeyApi { keys } => keys,
            _ => panic!("this application does not authenticate by a key"),
        }
    }
}

impl State {
    pub(crate) fn new(issuer: String) -> Self {
        let mut state = Self {
            issuer,
            clock_ahead: 0,
            next_id: 400_000_000_000_000_001,
            rsa_keys: 0,
            instance: Id::new(),
            administrator: Id::new(),
            organizations: Vec::new(),
            projects: Vec::new(),
            applications: Vec::new(),
            users: Vec::new(),
            grants: Vec::new(),
            tokens: Vec::new(),
            sessions: BTreeSet::new(),
            signing_keys: Vec::new(),
            keys_cache_control: "max-age=300, must-revalidate".to_owned(),
            events: Vec::new(),
            sequences: BTreeMap::new(),
            push: None,
            memberships: Vec::new(),
            withdrawn: BTreeSet::new(),
            editor: None,
            births: BTreeMap::new(),
            ends: BTreeMap::new(),
            removed: BTreeSet::new(),
            list_lag: Duration::ZERO,
            role_texts: BTreeMap::new(),
            targets: Vec::new(),
            executions: Vec::new(),
            user_keys: Vec::new(),
            event_delay: Some(Duration::ZERO),
            webhooks: Webhooks::default(),
            event_types: Vec::new(),
            grant_lag: Duration::ZERO,
            grants_before: VecDeque::new(),
        };
        state.instance = state.new_id();
        state.administrator = state.new_id();
        state.bear(&state.instance.clone());
        state.add_organization("ZITADEL");
        // As in every instance: its first events.
        let aggregate =
            Aggregate { id: state.instance.clone(), kind: "instance", owner: state.instance.clone() };
        state.emit(aggregate, "instance.added", Some(serde_json::json!({"name": "ZITADEL"})));
        let administrator = state.administrator.clone();
        let payload = serde_json::json!({"userId": administrator, "roles": ["IAM_OWNER"]});
        let aggregate =
            Aggregate { id: state.instance.clone(), kind: "instance", owner: state.instance.clone() };
        state.emit(aggregate, "instance.member.added", Some(payload));
        state
    }

    /// Ids look like ZITADEL's: eighteen digits, ascending.
    pub(crate) fn new_id(&mut self) -> Id {
        self.next_id += 65_537;
        self.next_id.to_string()
    }

    /// The instance's own time, in Unix seconds.
    pub(crate) fn now(&self) -> i64 {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(machine.as_secs()).unwrap_or(i64::MAX).saturating_add(self.clock_ahead)
    }

    pub(crate) fn add_organization(&mut self, name: &str) -> Id {
        let id = self.new_id();
        let domain = format!("{}.localhost", name.to_lowercase().replace(' ', "-"));
        self.organizations.push(Organization { id: id.clone(), name: name.to_owned(), domain });
        self.bear(&id);
        id
    }

    /// The next RSA key of the process's pool, different from all others of this instance.
    pub(crate) fn new_rsa_key(&mut self) -> SigningKey {
        let id = self.new_id();
        self.rsa_keys += 1;
        SigningKey::new(id, Algorithm::Rs256, self.rsa_keys)
    }

    pub(crate) fn organization(&self, id: &str) -> &Organization {
        find(&self.organizations, |organization| organization.id == id)
    }

    pub(crate) fn project(&mut self, id: &str) -> &mut Project {
        find_mut(&mut self.projects, |project| project.id == id)
    }

    pub(crate) fn application(&mut self, id: &str) -> &mut Application {
        find_mut(&mut self.applications, |application| application.id == id)
    }

    pub(crate) fn user(&mut self, id: &str) -> &mut User {
        find_mut(&mut self.users, |user| user.id == id)
    }

    /// The current signing key, made when first needed: RS256, ZITADEL's default.
    pub(crate) fn signing_key(&mut self) -> SigningKey {
        if self.signing_keys.is_empty() {
            let id = self.new_id();
            // The pool's first key: no application gets it.
            let key = SigningKey::new(id, Algorithm::Rs256, 0);
            self.signing_keys.push(PublishedKey { key, signs: true });
        }
        let signing = self.signing_keys.iter().rev().find(|published| published.signs);
        signing.expect("one published key signs").key.clone()
    }
}

fn find<T>(all: &[T], is_it: impl Fn(&T) -> bool) -> &T {
    all.iter().find(|item| is_it(item)).expect("a handle names something that is there")
}

fn find_mut<T>(all: &mut [T], is_it: impl Fn(&T) -> bool) -> &mut T {
    all.iter_mut().find(|item| is_it(item)).expect("a handle names something that is there")
}
