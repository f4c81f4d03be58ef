//! The calls of ZITADEL's own APIs, case by case as a running ZITADEL answered them, in their order.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use reqwest::Method;
use serde_json::{Value, json};
use zitadel_introspect_testkit::{Endpoint, Fault, Issuer, Profile};

use crate::{
    events::{is_signed, target},
    world::client,
};

const RECORDING: &str = include_str!("../recordings/setup.json");

/// These answers depend on what else the recorded instance held: only status and shape are compared.
const OF_THE_WHOLE: [&str; 6] = [
    "org-list-orgowner",
    "org-list-creator",
    "org-list-noone",
    "pat-list-self",
    "admin-list-noone",
    // Names in the order of the alphabet: those of the recording are not known.
    "project-list-page",
];

/// The recorded instance: its organizations, its users, and the names that were bound so far.
struct Replay {
    issuer: Issuer,
    names: BTreeMap<String, String>,
}

impl Replay {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let default = issuer.default_organization();
        let organization = issuer.organization("Recorded");
        let mut names = BTreeMap::new();
        let mut bind = |name: &str, value: String| names.insert(name.to_owned(), value);
        bind("org", organization.id());
        bind("org-name", "Recorded".to_owned());
        bind("org domain", organization.domain());
        bind("default org", default.id());
        bind("default org domain", default.domain());
        bind("instance id", issuer.events()[0].instance_id.clone());
        bind("unknown id", "399999999999999999".to_owned());
        for (name, role) in [("owner", "IAM_OWNER"), ("viewer", "IAM_OWNER_VIEWER"), ("noone", "")] {
            let user = organization.service_user(name);
            if !role.is_empty() {
                user.set_instance_role(role);
            }
            bind(name, name.to_owned());
            bind(&format!("{name} id"), user.id());
            bind(&format!("{name} pat"), user.pat().to_string());
        }
        for (name, role) in [("orgowner", "ORG_OWNER"), ("creator", "ORG_PROJECT_CREATOR")] {
            let user = organization.service_user(name);
            user.set_organization_role(&organization, role);
            bind(name, name.to_owned());
            bind(&format!("{name} id"), user.id());
            bind(&format!("{name} pat"), user.pat().to_string());
        }
        bind("ada id", organization.person("ada", Profile::default()).id());
        for (name, value) in [
            ("project-name", "project"),
            ("app-name", "application"),
            ("robot", "robot"),
            ("target-name", "hook"),
            ("own project id", "498765432101234567"),
            ("own user id", "498765432101234568"),
            ("n", "1"),
        ] {
            bind(name, value.to_owned());
        }
        Self { issuer, names }
    }

    /// A text of the recording, with what is bound.
    fn filled(&self, text: &str) -> String {
        let fill = |text: String, (name, own): (&String, &String)| text.replace(&format!("<{name}>"), own);
        self.names.iter().fold(text.to_owned(), fill)
    }

    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.filled(text).into(),
            Value::Array(list) => list.iter().map(|value| self.fill(value)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// What the recorder made before and between the cases.
    async fn prepare(&mut self, case: &str) {
        let (service, method, body, id, name) = match case {
            "me-owner" => {
                let roles = ["IAM_OWNER", "IAM_LOGIN_CLIENT"];
                let body = json!({"userId": "<owner id>", "resource": {"instance": true}, "roles": roles});
                let service = "internal_permission.v2.InternalPermissionService";
                (service, "UpdateAdministrator", body, "changeDate", "changed")
            }
            "app-key-own-public" => {
                let body = json!({
                    "applicationId": "<app id>",
                    "projectId": "<project>",
                    "expirationDate": "2099-01-01T00:00:00Z",
                });
                ("application.v2.ApplicationService", "CreateApplicationKey", body, "keyId", "second key id")
            }
            "execution-set-two" => {
                let endpoint = "https://tasks.example.com/hooks/zitadel";
                let body =
                    json!({"name": "second", "restWebhook": {}, "timeout": "5s", "endpoint": endpoint});
                ("action.v2.ActionService", "CreateTarget", body, "id", "second target id")
            }
            _ => return,
        };
        let asking = client().post(format!("{}/zitadel.{service}/{method}", self.issuer.url()));
        let asking = asking.bearer_auth(&self.names["owner pat"]).header("content-type", "application/json");
        let answer = asking.body(self.fill(&body).to_string()).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        self.names.insert(name.to_owned(), answer[id].as_str().unwrap().to_owned());
    }

    async fn run(&mut self, case: &Value) -> Option<String> {
        let request = &case["request"];
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let url = format!("{}{}", self.issuer.url(), self.filled(request["path"].as_str().unwrap()));
        let mut asking = client().request(method.clone(), url);
        let mut has_type = false;
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            has_type |= name.eq_ignore_ascii_case("content-type");
            asking = asking.header(name, self.filled(value.as_str().unwrap()));
        }
        if !has_type && method != Method::GET {
            asking = asking.header("content-type", "application/json");
        }
        asking = match &request["body"] {
            Value::Null => asking,
            Value::String(text) => asking.body(text.clone()),
            body => asking.body(self.fill(body).to_string()),
        };
        let answer = asking.send().await.unwrap();
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let text = answer.text().await.unwrap();
        if case["status"] != status {
            return Some(format!("status {status} in place of {}: {text}", case["status"]));
        }
        for (name, value) in case["headers"].as_object().into_iter().flatten() {
            let own = headers.get(name).and_then(|own| own.to_str().ok()).unwrap_or_default();
            let is_same = own == value
                || (name == "Content-Type" && !own.is_empty() && value.as_str().unwrap().starts_with(own));
            if name != "Content-Encoding" && !is_same {
                return Some(format!("{name}: {own} in place of {value}"));
            }
        }
        if OF_THE_WHOLE.contains(&case["case"].as_str().unwrap()) {
            return None;
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        self.compare("", &case["body"], &body).err()
    }

    /// Compares an answer, and binds names on first sight.
    fn compare(&mut self, at: &str, recorded: &Value, own: &Value) -> Result<(), String> {
        let differs = || Err(format!("{at}: {own} in place of {recorded}"));
        match (recorded, own) {
            (Value::Object(recorded), Value::Object(own)) => {
                let names =
                    |members: &serde_json::Map<String, Value>| members.keys().cloned().collect::<Vec<_>>();
                if names(recorded) != names(own) {
                    return Err(format!("{at}: {:?} in place of {:?}", names(own), names(recorded)));
                }
                recorded
                    .iter()
                    .try_for_each(|(name, value)| self.compare(&format!("{at}/{name}"), value, &own[name]))
            }
            (Value::Array(recorded), Value::Array(own)) => self.compare_lists(at, recorded, own),
            (Value::String(recorded), Value::String(own)) => {
                if self.is_alike(at, recorded, own) {
                    Ok(())
                } else {
                    differs()
                }
            }
            (Value::Number(_), Value::Number(_)) if at.ends_with("updated_at") => Ok(()),
            _ if recorded == own => Ok(()),
            _ => differs(),
        }
    }

    /// A long list is cut in the recording: `… 62 in all`.
    fn compare_lists(&mut self, at: &str, recorded: &[Value], own: &[Value]) -> Result<(), String> {
        let last = recorded.last().and_then(Value::as_str).unwrap_or_default();
        let number = last.strip_prefix("… ").and_then(|rest| rest.strip_suffix(" in all"));
        let (recorded, number) = match number {
            Some(number) => (&recorded[..recorded.len() - 1], number.parse().unwrap()),
            None => (recorded, recorded.len()),
        };
        if own.len() != number {
            return Err(format!("{at}: {} in place of {number}", own.len()));
        }
        let mut pairs = recorded.iter().zip(own).enumerate();
        pairs.try_for_each(|(index, (recorded, own))| self.compare(&format!("{at}/{index}"), recorded, own))
    }

    fn is_alike(&mut self, at: &str, recorded: &str, own: &str) -> bool {
        let is_time = |text: &str| text.starts_with("20") && text.ends_with('Z') && text.contains('T');
        if is_time(recorded) && !recorded.starts_with("2099") {
            return is_time(own);
        }
        if at.ends_with("/sequence") {
            return own.parse::<u64>().is_ok();
        }
        if let Some(rest) = recorded.strip_prefix("<base64") {
            let length = rest.chars().filter(char::is_ascii_digit).collect::<String>();
            let length: usize = length.parse().unwrap();
            // The length of a key depends on its numbers.
            return if length > 1000 { own.len().abs_diff(length) < 40 } else { own.len() == length };
        }
        let known = recorded.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        if let Some(name) = known.filter(|name| !name.contains('<') && !self.names.contains_key(*name)) {
            self.names.insert(name.to_owned(), own.to_owned());
            return true;
        }
        // Where in the text a mistake is, depends on the ids in it.
        let place = |text: &str| match (text.find("(line 1:"), text.find("): ")) {
            (Some(start), Some(end)) => format!("{}{}", &text[..start], &text[end + 3..]),
            _ => text.to_owned(),
        };
        place(&self.filled(recorded)) == place(own)
    }
}

#[tokio::test]
async fn every_recorded_call_is_answered_as_it_was() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let cases = recording["cases"].as_array().unwrap();
    let mut replay = Replay::new().await;
    let (mut replayed, mut failures) = (0, Vec::new());
    for case in cases.iter().filter(|case| case["request"].is_object()) {
        replayed += 1;
        replay.prepare(case["case"].as_str().unwrap()).await;
        if let Some(failure) = replay.run(case).await {
            failures.push(format!("{}: {failure}", case["case"].as_str().unwrap()));
        }
    }
    let line = format!("setup: {replayed} recorded calls, {} compared by status alone\n", OF_THE_WHOLE.len());
    let _ = io::stderr().write_all(line.as_bytes());
    assert!(failures.is_empty(), "{} of {replayed}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(replayed, 269);
}

/// An instance with an administrator.
struct Managed {
    issuer: Issuer,
    token: String,
}

impl Managed {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let admin = issuer.service_user("administrator");
        admin.set_instance_role("IAM_OWNER");
        let token = admin.pat().to_string();
        Self { issuer, token }
    }

    async fn send(&self, method: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        let asking =
            client().post(format!("{}/zitadel.{method}", self.issuer.url())).bearer_auth(&self.token);
        let asking = asking.header("content-type", "application/json").body(body.to_string());
        let answer = asking.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?).unwrap()))
    }

    async fn call(&self, method: &str, body: Value) -> (u16, Value) {
        self.send(method, &body).await.unwrap()
    }

    async fn target(&self, name: &str, url: &str) -> (Value, String) {
        let body = json!({"name": name, "endpoint": url, "timeout": "5s", "restWebhook": {}});
        let (_, answer) = self.call("action.v2.ActionService/CreateTarget", body).await;
        (answer["id"].clone(), answer["signingKey"].as_str().unwrap().to_owned())
    }

    async fn set(&self, condition: Value, targets: &[&Value]) {
        let body = json!({"condition": {"event": condition}, "targets": targets});
        assert_eq!(self.call("action.v2.ActionService/SetExecution", body).await.0, 200);
    }
}

#[tokio::test]
async fn the_targets_of_the_best_match_alone_are_called() {
    let managed = Managed::new().await;
    let (url, mut webhooks) = target().await;
    let (exact, exact_key) = managed.target("exact", &url).await;
    let (group, group_key) = managed.target("group", &url).await;
    let (all, all_key) = managed.target("all", &url).await;
    let (away, _) = managed.target("away", "https://tasks.example.com/hook").await;
    let robot = managed.issuer.service_user("robot");
    managed.set(json!({"event": "user.locked"}), &[&exact, &away]).await;
    managed.set(json!({"group": "user"}), &[&group]).await;
    managed.set(json!({"all": true}), &[&all]).await;
    // Setting an execution is an event as well.
    let set = webhooks.recv().await.unwrap();
    assert!(set.body.contains("execution.set") && is_signed(&set, &all_key), "{}", set.body);
    robot.lock();
    robot.unlock();
    let _ = managed.issuer.project("p");
    for (kind, key) in [("user.locked", exact_key), ("user.unlocked", group_key), ("project.added", all_key)]
    {
        let webhook = webhooks.recv().await.unwrap();
        assert!(webhook.body.contains(&format!("\"{kind}\"")), "{}", webhook.body);
        assert!(is_signed(&webhook, &key), "{kind} is signed with the key of its own target");
    }
    assert!(webhooks.try_recv().is_err());
}

#[tokio::test]
async fn a_fault_can_lose_the_request_or_the_answer_of_one_call() {
    let managed = Managed::new().await;
    let organization = managed.issuer.default_organization().id();
    let create = "project.v2.ProjectService/CreateProject";
    let project = |name: &str| json!({"organizationId": organization, "name": name});
    managed.issuer.inject(Fault::refuse().on(Endpoint::Management).for_call(create).after(1).times(1));
    assert_eq!(managed.call(create, project("first")).await.0, 200);
    assert!(managed.send(create, &project("second")).await.is_err());
    assert_eq!(managed.call(create, project("second")).await.0, 200, "the request was lost");
    managed.issuer.inject(Fault::reset().on(Endpoint::Management).for_call(create).times(1));
    assert!(managed.send(create, &project("third")).await.is_err());
    assert_eq!(managed.call(create, project("third")).await.0, 409, "the answer was lost");
}

#[tokio::test]
async fn what_was_removed_or_has_ended_is_gone_for_every_call() {
    let managed = Managed::new().await;
    let organization = managed.issuer.default_organization().id();
    let project = json!({"organizationId": organization, "name": "p", "projectId": "498765432101234567"});
    let of_project = json!({"projectId": "498765432101234567"});
    for _ in 0..2 {
        assert_eq!(managed.call("project.v2.ProjectService/CreateProject", project.clone()).await.0, 200);
        let get = "project.v2.ProjectService/GetProject";
        assert_eq!(managed.call(get, of_project.clone()).await.0, 200);
        managed.call("project.v2.ProjectService/DeleteProject", of_project.clone()).await;
        assert_eq!(managed.call(get, of_project.clone()).await.0, 404);
    }

    let robot = managed.issuer.service_user("robot");
    let token = robot.access_token().issue();
    let user = json!({"userId": robot.id()});
    assert_eq!(managed.call("user.v2.UserService/DeleteUser", user).await.0, 200);
    let events = managed.issuer.events().len();
    token.revoke();
    assert_eq!(managed.issuer.events().len(), events, "its user was removed");
}
