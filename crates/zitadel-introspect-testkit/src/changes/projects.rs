//! Projects, their roles and their applications.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    events::Aggregate,
    keys::SigningKey,
    model::{Application, ApplicationKind, Id, Project, State},
};

impl State {
    pub(crate) fn add_project(&mut self, id: Option<Id>, organization: &str, name: &str) -> Id {
        let id = id.unwrap_or_else(|| self.new_id());
        if self.removed.remove(&id) {
            self.projects.retain(|own| own.id != id);
        }
        self.projects.push(Project {
            id: id.clone(),
            name: name.to_owned(),
            organization: organization.to_owned(),
            roles: Vec::new(),
            granted_to: BTreeSet::new(),
            asserts_roles: false,
            active: true,
        });
        self.emit_for_project(&id, "project.added", Some(json!({"name": name})));
        self.bear(&id);
        id
    }

    /// The project stays known, so that its tokens can be refused by its name.
    pub(crate) fn remove_project(&mut self, id: &str) {
        self.emit_for_project(id, "project.removed", None);
        self.remove_grants(|grant| grant.project == id);
        self.project(id).active = false;
        self.removed.insert(id.to_owned());
        for application in self.applications.iter_mut().filter(|own| own.project == id) {
            application.active = false;
        }
    }

    pub(crate) fn add_role(&mut self, project: &str, key: &str) {
        self.project(project).roles.push(key.to_owned());
        self.emit_for_project(project, "project.role.added", Some(json!({"key": key})));
        self.bear(&role_id(project, key));
    }

    pub(crate) fn remove_role(&mut self, project: &str, key: &str) {
        self.project(project).roles.retain(|role| role != key);
        self.emit_for_project(project, "project.role.removed", Some(json!({"key": key})));
        self.take_roles(|grant| grant.project == project, |role| role != key);
    }

    pub(crate) fn add_application(&mut self, project: &str, name: &str, kind: ApplicationKind) -> Id {
        let (id, client_id) = (self.new_id(), self.new_id());
        let is_api = !matches!(kind, ApplicationKind::Web { .. });
        let config = json!({"appId": id, "clientId": client_id});
        self.applications.push(Application {
            id: id.clone(),
            name: name.to_owned(),
            client_id,
            project: project.to_owned(),
            kind,
            active: true,
        });
        let payload = json!({"appId": id, "name": name});
        self.emit_for_project(project, "project.application.added", Some(payload));
        if is_api {
            self.emit_for_project(project, "project.application.config.api.added", Some(config));
        }
        self.bear(&id);
        id
    }

    /// A key of an application that authenticates by keys. `end` is its expiration date, if it has one.
    pub(crate) fn add_application_key(&mut self, application: &str, end: Option<&str>) -> SigningKey {
        let key = self.new_rsa_key();
        let own = self.application(application);
        let (project, client_id) = (own.project.clone(), own.client_id.clone());
        own.keys().push(key.clone());
        let payload = json!({"keyId": key.id, "applicationId": application, "clientId": client_id});
        self.emit_for_project(&project, "project.application.oidc.key.added", Some(payload));
        self.bear_secret(&key.id, end);
        key
    }

    pub(crate) fn remove_application_key(&mut self, application: &str, key: &str) {
        let own = self.application(application);
        own.keys().retain(|own| own.id != key);
        let project = own.project.clone();
        let payload = json!({"keyId": key});
        self.emit_for_project(&project, "project.application.oidc.key.removed", Some(payload));
    }

    pub(crate) fn emit_for_project(&mut self, id: &str, event: &'static str, payload: Option<Value>) {
        let owner = self.project(id).organization.clone();
        self.emit(Aggregate { id: id.to_owned(), kind: "project", owner }, event, payload);
    }
}

/// Roles have no ids of their own.
pub(crate) fn role_id(project: &str, key: &str) -> Id {
    format!("{project}/{key}")
}

/// The key.json of an application, as the Console offers it for download.
pub(crate) fn application_key_json(key: &SigningKey, application: &str, client_id: &str) -> String {
    json!({
        "type": "application",
        "keyId": key.id,
        "key": key.pkcs1_pem(),
        "appId": application,
        "clientId": client_id,
    })
    .to_string()
}
