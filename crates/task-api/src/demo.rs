//! Runs without a ZITADEL: an embedded issuer with a project, a viewer and an admin.

use std::io::{self, Write};

use tempfile::TempDir;
use zitadel_introspect::{ClientAuth, EventFeed, Verifier};
use zitadel_introspect_testkit::{Api, Issuer, Profile, Project, Token, WebApp};

use crate::{exit::StartError, methods::SERVICE, settings::Settings, verifier};

/// The token with which the demo reads events.
const EVENTS_TOKEN: &str = "events-token";

#[derive(Debug)]
pub(crate) struct Demo {
    issuer: Issuer,
    project: Project,
    api: Api,
    web: WebApp,
    viewer: Token,
    admin: Token,
    folder: TempDir,
}

impl Demo {
    pub(crate) async fn start() -> io::Result<Self> {
        let issuer = Issuer::builder().start().await?;
        let project = issuer.project("tasks");
        project.add_roles(["admin", "viewer"]);
        let api = project.api("task-api");
        let web = project.web_app("web");
        let viewer = issuer.person("viewer", Profile::default());
        let _ = viewer.grant(&project, ["viewer"]);
        let scopes =
            format!("openid profile {} urn:zitadel:iam:org:projects:roles", project.audience_scope());
        let viewer = viewer.log_in(&web, &scopes).access_token;
        let admin = issuer.service_user("admin");
        let _ = admin.grant(&project, ["admin"]);
        let admin = admin.pat();
        tracing::warn!(
            issuer = issuer.url(),
            "DEMO: the embedded issuer is for trying out, never for production"
        );
        let folder = TempDir::with_prefix("task-api-demo-")?;
        let reader = issuer.service_user("event-reader");
        reader.set_instance_role("IAM_OWNER_VIEWER");
        reader.pat().write_file(folder.path().join(EVENTS_TOKEN))?;
        Ok(Self { issuer, project, api, web, viewer, admin, folder })
    }

    /// A database that is deleted when the demo ends.
    pub(crate) fn database(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("tasks.db").display())
    }

    pub(crate) fn verifier(&self, settings: &Settings) -> Result<Verifier, StartError> {
        let issuer = zitadel_introspect::Issuer::parse(&self.issuer.url())?;
        let auth = ClientAuth::key_json(&self.api.key_json())?;
        let feed = EventFeed::token_file(self.folder.path().join(EVENTS_TOKEN))?;
        let builder = Verifier::builder(issuer, auth).project(self.project.id()).event_feed(feed);
        verifier::build(settings, builder).map_err(Into::into)
    }

    /// The guide's commands, ready to be pasted.
    pub(crate) fn print_guide(&self, api: &str, grpc: Option<&str>) {
        let (viewer, admin) = (&*self.viewer, &*self.admin);
        let (issuer, client) = (self.issuer.url(), self.web.client_id());
        let guide = format!(
            r#"
Try this in another terminal.

# public
curl -i {api}/api/healthz

# without a token: 401
curl -i {api}/api/tasks

# a viewer reads, and may not add: 200, 403
export VIEWER={viewer}
curl -i -H "Authorization: Bearer $VIEWER" {api}/api/tasks
curl -i -H "Authorization: Bearer $VIEWER" {api}/api/add-task

# an admin adds and reads: 200, 200
export ADMIN={admin}
curl -i -H "Authorization: Bearer $ADMIN" {api}/api/add-task --data "task=My new task"
curl -i -H "Authorization: Bearer $ADMIN" {api}/api/tasks

"#
        );
        let revocation = format!(
            r#"# the viewer's token is revoked at the issuer: a moment later the API refuses it, though it held a verdict: 200, 401
curl -i {issuer}/oauth/v2/revoke --data client_id={client} --data token=$VIEWER
sleep 1
curl -i -H "Authorization: Bearer $VIEWER" {api}/api/tasks

"#
        );
        let over_grpc = grpc.map(grpc_guide).unwrap_or_default();
        let guide = format!("{guide}{over_grpc}{revocation}# in a browser: {api}/docs\n\n");
        // A closed standard output does not stop the demo.
        let _ = io::stdout().write_all(guide.as_bytes());
    }
}

fn grpc_guide(grpc: &str) -> String {
    format!(
        r#"# the same over gRPC: https://github.com/fullstorydev/grpcurl
grpcurl -plaintext {grpc} {SERVICE}/Healthz
grpcurl -plaintext -H "authorization: Bearer $VIEWER" {grpc} {SERVICE}/ListTasks
grpcurl -plaintext -H "authorization: Bearer $VIEWER" -d '{{"task": "My new task"}}' {grpc} {SERVICE}/AddTask
grpcurl -plaintext -H "authorization: Bearer $ADMIN" -d '{{"task": "My new task"}}' {grpc} {SERVICE}/AddTask
grpcurl -plaintext -H "authorization: Bearer $ADMIN" {grpc} {SERVICE}/ListTasks
grpcurl -plaintext -H "authorization: Bearer $ADMIN" -d '{{"task": "a"}} {{"task": "b"}}' {grpc} {SERVICE}/AddTasks

"#
    )
}
