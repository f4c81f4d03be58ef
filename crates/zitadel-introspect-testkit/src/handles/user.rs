//! Users and their role grants.

use std::{io, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    events::Aggregate,
    handles::project::Organization,
    handles::project::Project,
    handles::project::WebApp,
    handles::token::AccessTokenRequest,
    handles::token::Login,
    handles::token::{self, Token},
    keys::SigningKey,
    model::{self, Id, Profile, State, UserState},
    shared::Shared,
};

impl Organization {
    /// Creates a service user in this organization.
    #[must_use]
    pub fn service_user(&self, username: &str) -> User {
        new_user(self.shared(), &self.id(), username, None)
    }

    /// Creates a person in this organization.
    #[must_use]
    pub fn person(&self, username: &str, profile: Profile) -> User {
        new_user(self.shared(), &self.id(), username, Some(profile))
    }
}

/// A service user or a person.
#[derive(Debug, Clone)]
pub struct User {
    shared: Arc<Shared>,
    id: Id,
}

/// Roles given to a user on a project (ZITADEL: user grant, authorization).
#[derive(Debug, Clone)]
pub struct RoleGrant {
    shared: Arc<Shared>,
    id: Id,
}

pub(crate) fn new_user(
    shared: &Arc<Shared>,
    organization: &str,
    username: &str,
    person: Option<Profile>,
) -> User {
    let id = shared.change(|state| {
        let (id, updated_at) = (state.new_id(), state.now());
        let event = if person.is_some() { "user.human.added" } else { "user.machine.added" };
        let (has_email, has_phone) = person
            .as_ref()
            .map_or((false, false), |profile| (profile.email.is_some(), profile.phone_number.is_some()));
        state.users.push(model::User {
            id: id.clone(),
            username: username.to_owned(),
            organization: organization.to_owned(),
            person,
            state: UserState::Active,
            metadata: std::collections::BTreeMap::new(),
            updated_at,
        });
        let payload = json!({"userName": username});
        state.emit_for_user(&id, event, Some(payload));
        for (has, event) in
            [(has_email, "user.human.email.verified"), (has_phone, "user.human.phone.verified")]
        {
            if has {
                state.emit_for_user(&id, event, None);
            }
        }
        id
    });
    User { shared: Arc::clone(shared), id }
}

/// A key of a service user, for the JWT profile grant.
#[derive(Debug, Clone)]
pub struct UserKey {
    key: SigningKey,
    user: Id,
}

impl User {
    /// The user's id: `sub`.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Grants roles on a project, in the organization that owns the project.
    pub fn grant<R: AsRef<str>>(&self, project: &Project, roles: impl IntoIterator<Item = R>) -> RoleGrant {
        let owner = self.shared.change(|state| state.project(&project.id()).organization.clone());
        self.grant_by(&owner, project, roles)
    }

    /// Grants roles on a project that was shared with another organization, in that organization.
    ///
    /// # Panics
    ///
    /// If the project was not shared with that organization ([`Project::grant_to`]).
    pub fn grant_in<R: AsRef<str>>(
        &self,
        organization: &Organization,
        project: &Project,
        roles: impl IntoIterator<Item = R>,
    ) -> RoleGrant {
        assert!(project.is_granted_to(organization), "the project is not granted to this organization");
        self.grant_by(&organization.id(), project, roles)
    }

    fn grant_by<R: AsRef<str>>(
        &self,
        organization: &str,
        project: &Project,
        roles: impl IntoIterator<Item = R>,
    ) -> RoleGrant {
        let roles: Vec<String> = roles.into_iter().map(|role| role.as_ref().to_owned()).collect();
        let id = self.shared.change(|state| {
            check_roles(state, &project.id(), &roles);
            let id = state.new_id();
            let payload = json!({"userId": self.id, "projectId": project.id(), "roleKeys": roles});
            state.grants.push(model::Grant {
                id: id.clone(),
                user: self.id.clone(),
                project: project.id(),
                organization: organization.to_owned(),
                roles,
                active: true,
            });
            state.emit_for_grant(&id, "user.grant.added", Some(payload));
            id
        });
        RoleGrant { shared: Arc::clone(&self.shared), id }
    }

    /// A personal access token without expiry.
    #[must_use]
    pub fn pat(&self) -> Token {
        token::new_pat(&self.shared, &self.id, None)
    }

    /// A personal access token that expires, in Unix seconds.
    #[must_use]
    pub fn pat_until(&self, expires_at: i64) -> Token {
        token::new_pat(&self.shared, &self.id, Some(expires_at))
    }

    /// An access token for a service user (client credentials): opaque, 12 hours, scope `openid` unless
    /// the request says otherwise.
    #[must_use]
    pub fn access_token(&self) -> AccessTokenRequest {
        AccessTokenRequest::new(&self.shared, &self.id)
    }

    /// Logs a person in to an application (authorization code), with these scopes.
    #[must_use]
    pub fn log_in(&self, app: &WebApp, scopes: &str) -> Login {
        token::log_in(&self.shared, &self.id, &app.client_id(), scopes)
    }

    /// Sets one entry of the user's metadata.
    pub fn set_metadata(&self, key: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        self.shared.change(|state| {
            let payload = json!({"key": key, "value": STANDARD.encode(&value)});
            let before = state.user(&self.id).metadata.insert(key.to_owned(), value.clone());
            if before.as_ref() != Some(&value) {
                state.emit_for_user(&self.id, "user.metadata.set", Some(payload));
            }
        });
    }

    /// Deactivates the user. All tokens of the user become inactive permanently.
    pub fn deactivate(&self) {
        self.set_state(UserState::Deactivated, "user.deactivated");
    }

    /// Reactivates the user; old tokens stay inactive.
    pub fn reactivate(&self) {
        self.set_state(UserState::Active, "user.reactivated");
    }

    /// Locks the user. All tokens of the user become inactive permanently.
    pub fn lock(&self) {
        self.set_state(UserState::Locked, "user.locked");
    }

    /// Unlocks the user; old tokens stay inactive.
    pub fn unlock(&self) {
        self.set_state(UserState::Active, "user.unlocked");
    }

    /// Removes the user, with all grants and tokens.
    pub fn remove(self) {
        self.shared.change(|state| {
            let aggregate = user_aggregate(state, &self.id);
            state.end_tokens_of(&self.id);
            state.emit(aggregate, "user.removed", None);
            state.remove_grants(|grant| grant.user == self.id);
            state.users.retain(|user| user.id != self.id);
        });
    }

    /// Gives the user a role in the instance. With `IAM_OWNER_VIEWER` or `IAM_OWNER` it may read events.
    pub fn set_instance_role(&self, role: &str) {
        self.shared.change(|state| state.give_instance_role(&self.id, role));
    }

    /// Takes the user's role in the instance away.
    pub fn remove_instance_role(&self) {
        self.shared.change(|state| {
            state.instance_roles.remove(&self.id);
            let owner = state.instance.clone();
            let aggregate = Aggregate { id: owner.clone(), kind: "instance", owner };
            state.emit(aggregate, "instance.member.removed", Some(json!({"userId": self.id})));
        });
    }

    /// Adds a key for the JWT profile grant of a service user (RFC 7523 section 2.1).
    #[must_use]
    pub fn add_key(&self) -> UserKey {
        self.shared.change(|state| {
            let key = state.new_rsa_key();
            let payload = json!({"keyId": key.id});
            state.user_keys.push(model::UserKey { user: self.id.clone(), key: key.clone() });
            state.emit_for_user(&self.id, "user.machine.key.added", Some(payload));
            UserKey { key, user: self.id.clone() }
        })
    }

    /// Removes a key: it gets no further token.
    pub fn remove_key(&self, key: &UserKey) {
        self.shared.change(|state| {
            state.user_keys.retain(|own| own.key.id != key.key.id);
            let payload = json!({"keyId": key.key.id});
            state.emit_for_user(&self.id, "user.machine.key.removed", Some(payload));
        });
    }

    fn set_state(&self, to: UserState, event: &'static str) {
        self.shared.change(|state| {
            state.user(&self.id).state = to;
            if to != UserState::Active {
                state.end_tokens_of(&self.id);
            }
            state.emit_for_user(&self.id, event, None);
        });
    }
}

impl UserKey {
    /// The key's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.key.id
    }

    /// The key.json, as the Console offers it for download.
    #[must_use]
    pub fn json(&self) -> String {
        json!({
            "type": "serviceaccount",
            "keyId": self.key.id,
            "key": self.key.pkcs1_pem(),
            "expirationDate": "9999-12-31T23:59:59Z",
            "userId": self.user,
        })
        .to_string()
    }

    /// Writes the key.json to a new file that only this user can read.
    ///
    /// # Errors
    ///
    /// The system's error, also if the file already exists.
    pub fn write_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        crate::secret_file::create(path.as_ref(), &self.json())
    }
}

impl RoleGrant {
    /// The grant's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Replaces the roles of the grant, by the call of ZITADEL's v2 API: its event does not name the user.
    pub fn change<R: AsRef<str>>(&self, roles: impl IntoIterator<Item = R>) {
        self.change_roles(roles, false);
    }

    /// Replaces the roles of the grant, by the call of ZITADEL's v1 API: its event names the user.
    pub fn change_v1<R: AsRef<str>>(&self, roles: impl IntoIterator<Item = R>) {
        self.change_roles(roles, true);
    }

    fn change_roles<R: AsRef<str>>(&self, roles: impl IntoIterator<Item = R>, is_v1: bool) {
        let roles: Vec<String> = roles.into_iter().map(|role| role.as_ref().to_owned()).collect();
        self.shared.change(|state| {
            let grant = state.grant(&self.id);
            let (project, user) = (grant.project.clone(), grant.user.clone());
            check_roles(state, &project, &roles);
            if state.grant(&self.id).roles == roles {
                return; // no change, no event
            }
            let (event, payload) = if is_v1 {
                ("user.grant.changed", json!({"roleKeys": roles, "userId": user}))
            } else {
                ("user.grant.cascade.changed", json!({"roleKeys": roles}))
            };
            state.grant(&self.id).roles = roles;
            state.emit_for_grant(&self.id, event, Some(payload));
        });
    }

    /// Deactivates the grant: its roles do not count.
    pub fn deactivate(&self) {
        self.set_active(false, "user.grant.deactivated");
    }

    /// Reactivates the grant.
    pub fn reactivate(&self) {
        self.set_active(true, "user.grant.reactivated");
    }

    /// Removes the grant.
    pub fn remove(self) {
        self.shared.change(|state| {
            let aggregate = grant_aggregate(state, &self.id);
            let grant = state.grant(&self.id);
            let payload = json!({"userId": grant.user, "projectId": grant.project});
            state.grants.retain(|grant| grant.id != self.id);
            state.emit(aggregate, "user.grant.removed", Some(payload));
        });
    }

    fn set_active(&self, active: bool, event: &'static str) {
        self.shared.change(|state| {
            state.grant(&self.id).active = active;
            state.emit_for_grant(&self.id, event, None);
        });
    }
}

impl State {
    fn grant(&mut self, id: &str) -> &mut model::Grant {
        let found = self.grants.iter_mut().find(|grant| grant.id == id);
        found.expect("a grant that was not removed")
    }

    pub(crate) fn emit_for_user(&mut self, id: &str, event: &'static str, payload: Option<Value>) {
        let aggregate = user_aggregate(self, id);
        self.emit(aggregate, event, payload);
    }

    pub(crate) fn emit_for_grant(&mut self, id: &str, event: &'static str, payload: Option<Value>) {
        let aggregate = grant_aggregate(self, id);
        self.emit(aggregate, event, payload);
    }

    /// Removes grants because something else was removed: their events name nobody.
    pub(crate) fn remove_grants(&mut self, is_gone: impl Fn(&model::Grant) -> bool) {
        let gone: Vec<_> =
            self.grants.iter().filter(|grant| is_gone(grant)).map(|grant| grant.id.clone()).collect();
        for id in &gone {
            self.emit_for_grant(id, "user.grant.cascade.removed", None);
        }
        self.grants.retain(|grant| !gone.contains(&grant.id));
    }

    /// Takes roles from grants because something else was removed.
    pub(crate) fn take_roles(
        &mut self,
        is_concerned: impl Fn(&model::Grant) -> bool,
        keeps: impl Fn(&str) -> bool,
    ) {
        let mut changed = Vec::new();
        for grant in self.grants.iter_mut().filter(|grant| is_concerned(grant)) {
            let before = grant.roles.len();
            grant.roles.retain(|role| keeps(role));
            if grant.roles.len() < before {
                changed.push((grant.id.clone(), grant.roles.clone()));
            }
        }
        for (id, roles) in changed {
            let payload = if roles.is_empty() { json!({}) } else { json!({"roleKeys": roles}) };
            self.emit_for_grant(&id, "user.grant.cascade.changed", Some(payload));
        }
    }

    fn end_tokens_of(&mut self, user: &str) {
        for token in self.tokens.iter_mut().filter(|token| token.user == user) {
            token.dead = true;
        }
    }
}

/// ZITADEL grants only roles that the project has.
fn check_roles(state: &mut State, project: &str, roles: &[String]) {
    let project = state.project(project);
    for role in roles {
        assert!(project.roles.contains(role), "the project `{}` has no role `{role}`", project.name);
    }
}

fn user_aggregate(state: &mut State, id: &str) -> Aggregate {
    Aggregate { id: id.to_owned(), kind: "user", owner: state.user(id).organization.clone() }
}

fn grant_aggregate(state: &mut State, id: &str) -> Aggregate {
    let owner = state.grant(id).organization.clone();
    Aggregate { id: id.to_owned(), kind: "usergrant", owner }
}
