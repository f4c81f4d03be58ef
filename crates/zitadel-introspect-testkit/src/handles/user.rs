//! Users and their role grants.

use std::{io, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    changes::{self, NewUser},
    handles::project::Organization,
    handles::project::Project,
    handles::project::WebApp,
    handles::token::AccessTokenRequest,
    handles::token::Login,
    handles::token::{self, Token},
    keys::SigningKey,
    model::{Id, Level, Profile, State, UserState},
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
    let id = shared.change(|state| state.add_user(NewUser { id: None, organization, username, person }));
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
            state.add_grant(&self.id, &project.id(), organization, roles)
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
        self.shared.change(|state| state.remove_user(&self.id));
    }

    /// Gives the user a role in the instance. With `IAM_OWNER_VIEWER` or `IAM_OWNER` it may read events.
    pub fn set_instance_role(&self, role: &str) {
        self.shared.change(|state| state.set_membership(&self.id, Level::Instance, vec![role.to_owned()]));
    }

    /// Takes the user's role in the instance away.
    pub fn remove_instance_role(&self) {
        self.shared.change(|state| state.remove_membership(&self.id, &Level::Instance));
    }

    /// Gives the user a role in an organization, such as `ORG_OWNER`: what it may do by ZITADEL's own APIs.
    pub fn set_organization_role(&self, organization: &Organization, role: &str) {
        let level = Level::Organization(organization.id());
        self.shared.change(|state| state.set_membership(&self.id, level, vec![role.to_owned()]));
    }

    /// Adds a key for the JWT profile grant of a service user (RFC 7523 section 2.1).
    #[must_use]
    pub fn add_key(&self) -> UserKey {
        let key = self.shared.change(|state| state.add_user_key(&self.id, None));
        UserKey { key, user: self.id.clone() }
    }

    /// Removes a key: it gets no further token.
    pub fn remove_key(&self, key: &UserKey) {
        self.shared.change(|state| state.remove_user_key(&self.id, key.id()));
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
        changes::user_key_json(&self.key, &self.user, None)
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
            let project = state.grant(&self.id).project.clone();
            check_roles(state, &project, &roles);
            state.change_grant(&self.id, &roles, is_v1);
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
        self.shared.change(|state| state.remove_grant(&self.id));
    }

    fn set_active(&self, active: bool, event: &'static str) {
        self.shared.change(|state| {
            state.grant(&self.id).active = active;
            state.emit_for_grant(&self.id, event, None);
        });
    }
}

/// ZITADEL grants only roles that the project has.
fn check_roles(state: &mut State, project: &str, roles: &[String]) {
    let project = state.project(project);
    for role in roles {
        assert!(project.roles.contains(role), "the project `{}` has no role `{role}`", project.name);
    }
}
