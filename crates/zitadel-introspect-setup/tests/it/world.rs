//! An instance with an administrator, and what it holds.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use zitadel_introspect::{Management, ManagementError};
use zitadel_introspect_setup::{ApiSetup, Mode, Outcome, SetupError, Step};
use zitadel_introspect_testkit::{Issuer, User};

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) folder: TempDir,
    pub(crate) zitadel: Management,
}

impl World {
    /// With an owner of the instance.
    pub(crate) async fn new() -> Self {
        Self::with(|_, admin| admin.set_instance_role("IAM_OWNER")).await
    }

    /// With an owner of the default organization: enough for an API.
    pub(crate) async fn of_owner() -> Self {
        Self::with(|issuer, admin| admin.set_organization_role(&issuer.default_organization(), "ORG_OWNER"))
            .await
    }

    pub(crate) async fn with(role: impl FnOnce(&Issuer, &User)) -> Self {
        let issuer = Issuer::start().await;
        let admin = issuer.service_user("administrator");
        role(&issuer, &admin);
        let zitadel = management(&issuer, &admin.pat());
        Self { issuer, folder: tempfile::tempdir().unwrap(), zitadel }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// The names of the files, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The example of the guide: a project with the role `admin`, a viewer and a boss.
    pub(crate) fn tasks(&self) -> ApiSetup {
        ApiSetup::new("tasks", self.file("key.json"))
            .role("admin")
            .robot("viewer", [""; 0])
            .robot("boss", ["admin"])
    }

    pub(crate) async fn run(&self, setup: &ApiSetup, mode: Mode) -> Result<Outcome, SetupError> {
        setup.run(&self.zitadel, mode, &mut |_| {}).await
    }

    /// What the instance holds, by names and numbers.
    pub(crate) async fn snapshot(&self) -> Value {
        let projects = self.list("project.v2.ProjectService/ListProjects", json!({}), "projects").await;
        let mut shown = Vec::new();
        for project in &projects {
            shown.push(self.project(project).await);
        }
        let users = self.list("user.v2.UserService/ListUsers", json!({}), "result").await;
        let mut robots = Vec::new();
        for user in &users {
            robots.push(self.user(user).await);
        }
        let mut targets = self.list("action.v2.ActionService/ListTargets", json!({}), "targets").await;
        let executions = self.list("action.v2.ActionService/ListExecutions", json!({}), "executions").await;
        let mut executions: Vec<_> = executions.iter().map(|one| named(one, &targets)).collect();
        for target in &mut targets {
            *target = json!([target["name"], target["endpoint"]]);
        }
        for list in [&mut shown, &mut robots, &mut targets, &mut executions] {
            list.sort_by_key(Value::to_string);
        }
        json!({"projects": shown, "users": robots, "targets": targets, "executions": executions})
    }

    async fn project(&self, project: &Value) -> Value {
        let id = &project["projectId"];
        let method = "project.v2.ProjectService/ListProjectRoles";
        let roles = self.list(method, json!({"projectId": id}), "projectRoles").await;
        let mut roles: Vec<_> = roles.into_iter().map(|role| role["key"].clone()).collect();
        roles.sort_by_key(Value::to_string);
        let method = "application.v2.ApplicationService/ListApplications";
        let filter = json!({"filters": [{"projectIdFilter": {"projectId": id}}]});
        let mut applications = Vec::new();
        for application in self.list(method, filter, "applications").await {
            let filter = json!({"filters": [{"applicationIdFilter": {"applicationId": application["applicationId"]}}]});
            let method = "application.v2.ApplicationService/ListApplicationKeys";
            let keys = self.list(method, filter, "keys").await.len();
            applications.push(json!([application["name"], keys]));
        }
        json!([project["name"], roles, applications])
    }

    async fn user(&self, user: &Value) -> Value {
        let id = &user["userId"];
        let method = "user.v2.UserService/ListPersonalAccessTokens";
        let filter = json!({"filters": [{"userIdFilter": {"id": id}}]});
        let tokens = self.list(method, filter, "result").await.len();
        let method = "authorization.v2.AuthorizationService/ListAuthorizations";
        let filter = json!({"filters": [{"inUserIds": {"ids": [id]}}]});
        let grants = self.list(method, filter, "authorizations").await;
        let roles: Vec<_> = grants.iter().flat_map(|grant| keys(&grant["roles"])).collect();
        let method = "internal_permission.v2.InternalPermissionService/ListAdministrators";
        let filter = json!({"filters": [{"inUserIdsFilter": {"ids": [id]}}]});
        let administrators = self.list(method, filter, "administrators").await;
        let administrators: Vec<_> = administrators.into_iter().map(|one| one["roles"].clone()).collect();
        json!([user["username"], tokens, roles, administrators])
    }

    async fn list(&self, method: &str, request: Value, member: &str) -> Vec<Value> {
        let answer = match self.zitadel.call(method, &request).await {
            // Only an IAM_OWNER sees targets.
            Err(ManagementError::Refused(_)) => Value::Null,
            answer => answer.unwrap(),
        };
        answer[member].as_array().cloned().unwrap_or_default()
    }
}

fn keys(roles: &Value) -> Vec<Value> {
    roles.as_array().into_iter().flatten().map(|role| role["key"].clone()).collect()
}

/// An execution with the names of its targets.
fn named(execution: &Value, targets: &[Value]) -> Value {
    let name =
        |id: &Value| targets.iter().find(|target| target["id"] == *id).map(|target| target["name"].clone());
    let names: Vec<_> = execution["targets"].as_array().into_iter().flatten().map(name).collect();
    json!([execution["condition"]["event"], names])
}

pub(crate) fn management(issuer: &Issuer, token: &str) -> Management {
    let instance = zitadel_introspect::Issuer::parse(&issuer.url()).unwrap();
    Management::builder(instance, token.parse().unwrap()).build().unwrap()
}

/// The signs and kinds of steps, such as `+project`.
pub(crate) fn signs(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| format!("{}{}", step.sign.as_str(), step.what)).collect()
}
