//! The instance that the recordings describe, and a client for it.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use zitadel_introspect_testkit::{Api, Issuer, Profile, Project, RoleGrant, User, WebApp};

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) project: Project,
    pub(crate) other_project: Project,
    pub(crate) web: WebApp,
    pub(crate) api: Api,
    pub(crate) basic_api: Api,
    pub(crate) jwt_web: WebApp,
    pub(crate) other_api: Api,
    pub(crate) robot: User,
    pub(crate) admin_robot: User,
    pub(crate) admin_grant: RoleGrant,
    pub(crate) ada: User,
}

impl World {
    pub(crate) async fn new() -> Self {
        let issuer = Issuer::start().await;
        let with_roles = |name: &str| {
            let project = issuer.project(name);
            project.add_roles(["admin", "viewer"]);
            project
        };
        let (project, other_project) = (with_roles("tasks"), with_roles("other"));
        with_roles("asserting").set_role_assertion(true);
        let web = project.web_app("web");
        let (api, basic_api) = (project.api("api"), project.secret_api("basic api"));
        let jwt_web = project.web_app("jwt web").jwt_access_tokens(true).id_token_profile(true);
        let other_api = other_project.api("other api");
        let (robot, admin_robot) = (issuer.service_user("robot"), issuer.service_user("admin-robot"));
        let admin_grant = admin_robot.grant(&project, ["admin", "viewer"]);
        admin_robot.grant(&other_project, ["viewer"]);
        admin_robot.set_metadata("team", "Ångström?>");
        admin_robot.set_metadata("empty", " ");
        let mut profile = Profile::default();
        profile.given_name = Some("Ada".into());
        profile.family_name = Some("Lovelace".into());
        profile.nickname = Some("ada".into());
        profile.locale = Some("en".into());
        profile.email = Some("ada@example.com".into());
        profile.phone_number = Some("+41791234567".into());
        let ada = issuer.person("ada", profile);
        ada.grant(&project, ["viewer"]);
        Self {
            issuer,
            project,
            other_project,
            web,
            api,
            basic_api,
            jwt_web,
            other_api,
            robot,
            admin_robot,
            admin_grant,
            ada,
        }
    }

    /// Introspects as the API with the secret.
    pub(crate) async fn introspect(&self, token: &str) -> Value {
        let answer = self.ask(token).await;
        assert_eq!(answer.status(), 200);
        json_of(answer).await
    }

    pub(crate) async fn ask(&self, token: &str) -> Response {
        let basic = basic(&self.basic_api.client_id(), &self.basic_api.secret());
        let request = client().post(format!("{}/oauth/v2/introspect", self.issuer.url()));
        request.header("authorization", basic).form(&[("token", token)]).send().await.unwrap()
    }
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

pub(crate) fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(id), encode(secret))))
}

pub(crate) async fn json_of(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// Header and claims of a JWT.
pub(crate) fn decode(token: &str) -> (Value, Value) {
    let part = |index| {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    (part(0), part(1))
}

pub(crate) fn inactive() -> Value {
    json!({"active": false})
}
