//! Organizations, projects and their applications.

use std::{io, path::Path, sync::Arc};

use serde_json::json;

use crate::{
    changes,
    events::Aggregate,
    keys::{SigningKey, random_text},
    model::{self, ApplicationKind, Id, State},
    shared::Shared,
};

/// An organization of the instance.
#[derive(Debug, Clone)]
pub struct Organization {
    shared: Arc<Shared>,
    id: Id,
}

/// A project: an API and the applications that call it.
#[derive(Debug, Clone)]
pub struct Project {
    shared: Arc<Shared>,
    id: Id,
}

/// An API application: the identity with which an API asks for introspection.
#[derive(Debug, Clone)]
pub struct Api {
    shared: Arc<Shared>,
    id: Id,
}

/// A key of an API application; a removed key can still sign.
#[derive(Debug, Clone)]
pub struct ApiKey {
    key: SigningKey,
    app_id: Id,
    client_id: String,
}

/// An application that people log in to.
#[derive(Debug, Clone)]
pub struct WebApp {
    shared: Arc<Shared>,
    id: Id,
}

impl Organization {
    pub(crate) fn new(shared: &Arc<Shared>, id: Id) -> Self {
        Self { shared: Arc::clone(shared), id }
    }

    /// The organization's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The organization's primary domain.
    #[must_use]
    pub fn domain(&self) -> String {
        self.shared.change(|state| state.organization(&self.id).domain.clone())
    }

    /// Tells that the organization was deactivated: an event alone, since its users keep their tokens.
    pub fn deactivate(&self) {
        let id = self.id.clone();
        let aggregate = Aggregate { kind: "org", owner: id.clone(), id };
        self.shared.change(|state| state.emit(aggregate, "org.deactivated", Some(json!({}))));
    }

    /// Creates a project in this organization.
    #[must_use]
    pub fn project(&self, name: &str) -> Project {
        new_project(&self.shared, &self.id, name)
    }
}

pub(crate) fn new_project(shared: &Arc<Shared>, organization: &str, name: &str) -> Project {
    let id = shared.change(|state| state.add_project(None, organization, name));
    Project { shared: Arc::clone(shared), id }
}

impl Project {
    /// The project's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// The scope that puts this project into a token's audience.
    #[must_use]
    pub fn audience_scope(&self) -> String {
        crate::claims::audience_scope(&self.id)
    }

    /// Adds roles.
    pub fn add_roles<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
        for key in keys {
            self.add_role(key);
        }
    }

    /// Adds a role.
    pub fn add_role(&self, key: &str) {
        self.shared.change(|state| state.add_role(&self.id, key));
    }

    /// Removes a role, and takes it from everybody who has it.
    pub fn remove_role(&self, key: &str) {
        self.shared.change(|state| state.remove_role(&self.id, key));
    }

    /// Shares the project with another organization, so that its users can be granted roles there.
    pub fn grant_to(&self, organization: &Organization) {
        self.shared.change(|state| {
            state.project(&self.id).granted_to.insert(organization.id.clone());
            let payload = json!({"grantId": format!("{}-{}", self.id, organization.id),
                "grantedOrgId": organization.id});
            self.emit(state, "project.grant.added", payload);
        });
    }

    /// Whether the project is shared with an organization.
    #[must_use]
    pub fn is_granted_to(&self, organization: &Organization) -> bool {
        self.shared.change(|state| state.project(&self.id).granted_to.contains(&organization.id))
    }

    /// Whether tokens of the project's applications assert roles without being asked ("role assertion").
    pub fn set_role_assertion(&self, asserts: bool) {
        self.shared.change(|state| state.project(&self.id).asserts_roles = asserts);
    }

    /// Shows the organization fewer roles of the shared project; its users lose the others. ZITADEL's event names no user.
    pub fn narrow_grant_to(&self, organization: &Organization, roles: &[&str]) {
        self.shared.change(|state| {
            let payload = json!({"grantId": format!("{}-{}", self.id, organization.id), "roleKeys": roles});
            self.emit(state, "project.grant.changed", payload);
            let is_concerned =
                |grant: &&mut model::Grant| grant.project == self.id && grant.organization == organization.id;
            for grant in state.grants.iter_mut().filter(is_concerned) {
                grant.roles.retain(|role| roles.contains(&role.as_str()));
            }
        });
    }

    /// Shares the project no longer: grants in that organization are removed.
    pub fn remove_grant_to(&self, organization: &Organization) {
        self.shared.change(|state| {
            state.project(&self.id).granted_to.remove(&organization.id);
            let payload = json!({"grantId": format!("{}-{}", self.id, organization.id)});
            self.emit(state, "project.grant.removed", payload);
            state.remove_grants(|grant| grant.project == self.id && grant.organization == organization.id);
        });
    }

    /// Removes the project, its applications and all grants on it.
    pub fn remove(self) {
        self.shared.change(|state| state.remove_project(&self.id));
    }

    /// Deactivates the project: its APIs are refused from now on.
    pub fn deactivate(&self) {
        self.set_active(false, "project.deactivated");
    }

    /// Reactivates the project.
    pub fn reactivate(&self) {
        self.set_active(true, "project.reactivated");
    }

    /// Creates an API application that authenticates by a key (`private_key_jwt`), with its first key.
    #[must_use]
    pub fn api(&self, name: &str) -> Api {
        let id = self.add_application(name, ApplicationKind::KeyApi { keys: Vec::new() });
        let api = Api { shared: Arc::clone(&self.shared), id };
        let _first = api.add_key();
        api
    }

    /// Creates an API application that authenticates by client id and secret.
    #[must_use]
    pub fn secret_api(&self, name: &str) -> Api {
        // A secret with characters that Basic authentication must escape.
        let secret = format!("{}+/ %", random_text(24));
        let id = self.add_application(name, ApplicationKind::SecretApi { secret });
        Api { shared: Arc::clone(&self.shared), id }
    }

    /// Creates a web application without a secret, whose access tokens are opaque.
    #[must_use]
    pub fn web_app(&self, name: &str) -> WebApp {
        let kind = ApplicationKind::Web { jwt: false, asserts_roles: false, id_token_profile: false };
        WebApp { shared: Arc::clone(&self.shared), id: self.add_application(name, kind) }
    }

    fn add_application(&self, name: &str, kind: ApplicationKind) -> Id {
        self.shared.change(|state| state.add_application(&self.id, name, kind))
    }

    fn set_active(&self, active: bool, event: &'static str) {
        self.shared.change(|state| {
            state.project(&self.id).active = active;
            state.emit_for_project(&self.id, event, None);
        });
    }

    fn emit(&self, state: &mut State, event: &'static str, payload: serde_json::Value) {
        state.emit_for_project(&self.id, event, Some(payload));
    }
}

impl Api {
    /// The client id.
    #[must_use]
    pub fn client_id(&self) -> String {
        self.shared.change(|state| state.application(&self.id).client_id.clone())
    }

    /// The newest key.
    ///
    /// # Panics
    ///
    /// If the application authenticates by a secret, or all its keys were removed.
    #[must_use]
    pub fn key(&self) -> ApiKey {
        self.shared.change(|state| {
            let application = state.application(&self.id);
            let key = application.keys().last().expect("a key that was not removed").clone();
            ApiKey { key, app_id: application.id.clone(), client_id: application.client_id.clone() }
        })
    }

    /// The key.json of the newest key, as the Console offers it for download.
    ///
    /// # Panics
    ///
    /// As [`key`](Self::key).
    #[must_use]
    pub fn key_json(&self) -> String {
        self.key().json()
    }

    /// Writes the key.json to a new file that only this user can read.
    ///
    /// # Errors
    ///
    /// The system's error, also if the file already exists.
    pub fn write_key_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        crate::secret_file::create(path.as_ref(), &self.key_json())
    }

    /// The client secret.
    ///
    /// # Panics
    ///
    /// If the application authenticates by a key.
    #[must_use]
    pub fn secret(&self) -> String {
        self.shared.change(|state| match &state.application(&self.id).kind {
            ApplicationKind::SecretApi { secret } => secret.clone(),
            _ => panic!("this application has no secret"),
        })
    }

    /// Adds a key, which becomes the newest key.
    #[must_use]
    pub fn add_key(&self) -> ApiKey {
        self.shared.change(|state| state.add_application_key(&self.id, None));
        self.key()
    }

    /// Removes a key: it is refused from now on.
    pub fn remove_key(&self, key: &ApiKey) {
        self.shared.change(|state| state.remove_application_key(&self.id, key.id()));
    }

    /// Deactivates the application: it is refused from now on.
    pub fn deactivate(&self) {
        self.set_active(false, "project.application.deactivated");
    }

    /// Removes the application: it is refused from now on.
    pub fn remove(self) {
        self.set_active(false, "project.application.removed");
    }

    /// Reactivates the application.
    pub fn reactivate(&self) {
        self.set_active(true, "project.application.reactivated");
    }

    fn set_active(&self, active: bool, event: &'static str) {
        self.shared.change(|state| {
            state.application(&self.id).active = active;
            self.emit(state, event, &json!({"appId": self.id}));
        });
    }

    fn emit(&self, state: &mut State, event: &'static str, payload: &serde_json::Value) {
        let project = state.application(&self.id).project.clone();
        state.emit_for_project(&project, event, Some(payload.clone()));
    }
}

impl ApiKey {
    /// The key's id: `kid` of the assertions that it signs.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.key.id
    }

    /// The key.json, as the Console offers it for download.
    #[must_use]
    pub fn json(&self) -> String {
        changes::application_key_json(&self.key, &self.app_id, &self.client_id)
    }

    /// Signs a client assertion of any header and claims.
    #[must_use]
    pub fn sign(&self, header: &serde_json::Value, claims: &serde_json::Value) -> String {
        self.key.sign_parts(header, claims)
    }
}

impl WebApp {
    /// The client id.
    #[must_use]
    pub fn client_id(&self) -> String {
        self.shared.change(|state| state.application(&self.id).client_id.clone())
    }

    /// Whether access tokens are JWTs instead of opaque.
    #[must_use]
    pub fn jwt_access_tokens(self, jwt: bool) -> Self {
        self.set(|own, _, _| *own = jwt)
    }

    /// Whether access tokens assert roles, where the project does as well.
    #[must_use]
    pub fn role_assertion(self, asserts: bool) -> Self {
        self.set(|_, own, _| *own = asserts)
    }

    /// Whether ID tokens carry the profile ("user info inside ID token").
    #[must_use]
    pub fn id_token_profile(self, carries: bool) -> Self {
        self.set(|_, _, own| *own = carries)
    }

    fn set(self, change: impl FnOnce(&mut bool, &mut bool, &mut bool)) -> Self {
        self.shared.change(|state| {
            let kind = &mut state.application(&self.id).kind;
            if let ApplicationKind::Web { jwt, asserts_roles, id_token_profile } = kind {
                change(jwt, asserts_roles, id_token_profile);
            }
        });
        self
    }
}
