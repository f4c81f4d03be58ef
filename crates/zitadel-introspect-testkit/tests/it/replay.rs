//! Every recorded case, in order, against the twin.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use reqwest::{Method, Response};
use serde_json::Value;
use zitadel_introspect_testkit::{ApiKey, Token};

use crate::world::{World, basic, client, decode};

const RECORDING: &str = include_str!("../recordings/introspection.json");
/// When the recorded personal access tokens expire: in the year 2099.
const RECORDED_PAT_END: i64 = 4_070_908_800;
const RECORDED_ISSUER: &str = "http://localhost:8080";

/// Members whose values are made anew by each server: only their kind is compared.
const FRESH: [&str; 6] = ["jti", "at_hash", "sid", "kid", "n", "nonce"];

#[tokio::test]
async fn all_recorded_cases_are_answered_as_zitadel_answered_them() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let mut replay = Replay::new(World::new().await);
    let cases = recording["cases"].as_array().unwrap();
    let mut differing = Vec::new();
    for case in cases {
        let found = replay.run(case).await;
        differing.extend(found.into_iter().map(|difference| format!("{}: {difference}", case["case"])));
    }
    // Past the capture of the test harness: the line is part of the proof.
    writeln!(io::stderr(), "{} cases, {} differ", cases.len(), differing.len()).unwrap();
    assert_eq!(cases.len(), 68);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

struct Replay {
    world: World,
    names: BTreeMap<String, String>,
    keys: BTreeMap<String, ApiKey>,
    last_token: String,
    last_id_token: String,
}

impl Replay {
    fn new(world: World) -> Self {
        let organization = world.issuer.default_organization();
        let names = [
            ("project", world.project.id()),
            ("other project", world.other_project.id()),
            ("api client id", world.api.client_id()),
            ("basic api client id", world.basic_api.client_id()),
            ("other api client id", world.other_api.client_id()),
            ("web client id", world.web.client_id()),
            ("jwt web client id", world.jwt_web.client_id()),
            ("key id", world.api.key().id().to_owned()),
            ("secret", world.basic_api.secret()),
            ("org", organization.id()),
            ("org domain", organization.domain()),
            ("robot", "robot".into()),
            ("robot id", world.robot.id()),
            ("admin-robot", "admin-robot".into()),
            ("admin-robot id", world.admin_robot.id()),
            ("ada", "ada".into()),
            ("ada id", world.ada.id()),
            ("the letter a, 20000 times", "a".repeat(20_000)),
        ];
        let keys = [
            ("the key of <api client id>", world.api.key()),
            ("the key of <other api client id>", world.other_api.key()),
        ];
        let mut replay = Self {
            names: names.into_iter().map(|(name, value)| (format!("<{name}>"), value)).collect(),
            keys: keys.into_iter().map(|(name, key)| (name.to_owned(), key)).collect(),
            world,
            last_token: String::new(),
            last_id_token: String::new(),
        };
        // The recorded id of the other API's key stands for itself in the file.
        replay.names.insert("400956905859583014".into(), replay.world.other_api.key().id().to_owned());
        let mut pats = Vec::new();
        for (user, handle) in [("robot", &replay.world.robot), ("admin-robot", &replay.world.admin_robot)] {
            let pat = handle.pat_until(RECORDED_PAT_END);
            let names = [(format!("<{user} pat id>"), pat.id()), (format!("<{user} pat>"), pat.to_string())];
            pats.extend(names);
        }
        replay.names.extend(pats);
        replay
    }

    fn bind(&mut self, name: &str, value: impl Into<String>) {
        self.names.insert(format!("<{name}>"), value.into());
    }

    /// Puts the twin's own ids in the place of the recording's names.
    fn bound(&self, text: &str) -> String {
        let issuer = self.world.issuer.url();
        let text = text.replace(RECORDED_ISSUER, &issuer);
        self.names.iter().fold(text, |text, (name, value)| text.replace(name, value))
    }

    async fn run(&mut self, case: &Value) -> Vec<String> {
        let name = case["case"].as_str().unwrap();
        self.prepare(name, case);
        match name {
            "key-file" => self.compare_key_file(case),
            "jwt-access" | "jwt-access-plain" | "person-jwt-access" => {
                self.compare_jwt(&self.last_token, case)
            }
            "id-token" | "person-jwt-id-token" => self.compare_jwt(&self.last_id_token, case),
            _ => self.compare_answer(self.send(&case["request"]).await, case).await,
        }
    }

    /// What was done to the instance just before the case.
    fn prepare(&mut self, name: &str, case: &Value) {
        let recorded_scope = || self.bound(case["body"]["scope"].as_str().unwrap_or_default());
        match name {
            "discovery"
            | "keys"
            | "key-file"
            | "pat"
            | "pat-admin"
            | "pat-other-project"
            | "pat-basic"
            | "secret-in-form"
            | "dead-random"
            | "dead-jwt-shaped"
            | "dead-long"
            | "token-missing"
            | "token-empty"
            | "hint"
            | "no-client"
            | "client-id-only"
            | "both-methods"
            | "wrong-secret"
            | "unknown-client"
            | "jwt-app-with-basic"
            | "get"
            | "json-body"
            | "wrong-host"
            | "instance-host"
            | "person-refresh"
            | "person-id-token"
            | "userinfo"
            | "jwt-access"
            | "jwt-access-plain"
            | "person-jwt-access"
            | "person-jwt-id-token"
            | "id-token"
            | "revoke" => {}
            name if name.starts_with("assertion-") => {}
            name if name.starts_with("cc-") => {
                let scopes = case["what"].as_str().unwrap().split_once("scope: ").unwrap().1;
                let request = self.world.admin_robot.access_token().scopes(&self.bound(scopes));
                let token = if name.starts_with("cc-jwt") { request.jwt().issue() } else { request.issue() };
                self.bind("token", token.to_string());
                self.last_token = token.to_string();
            }
            "person" => {
                let login = self.world.ada.log_in(&self.world.web, &recorded_scope());
                self.bind("ada token", login.access_token.to_string());
                self.bind("ada refresh token", login.refresh_token.as_ref().map(Token::to_string).unwrap());
                self.bind("ada ID token", login.id_token.to_string());
                self.last_id_token = login.id_token.to_string();
            }
            "person-jwt" => {
                let login = self.world.ada.log_in(&self.world.jwt_web, &recorded_scope());
                self.bind("ada jwt", login.access_token.to_string());
                self.last_token = login.access_token.to_string();
                self.last_id_token = login.id_token.to_string();
            }
            "user-deactivated" => self.world.robot.deactivate(),
            "key-removed" => self.world.api.remove_key(&self.world.api.key()),
            "key-new" => {
                let key = self.world.api.add_key();
                self.names.insert("400956942534577190".into(), key.id().to_owned());
                self.keys.insert("the new key of <api client id>".into(), key);
            }
            "app-deactivated" => self.world.api.deactivate(),
            "app-reactivated" => self.world.api.reactivate(),
            "project-deactivated" => self.world.project.deactivate(),
            unknown => panic!("no such case is known: {unknown}"),
        }
    }

    async fn send(&self, request: &Value) -> Response {
        let method = Method::from_bytes(request["method"].as_str().unwrap().as_bytes()).unwrap();
        let mut url = reqwest::Url::parse(&self.world.issuer.url()).unwrap();
        url.set_path(request["path"].as_str().unwrap());
        if let Some(query) = request["query"].as_object() {
            url.query_pairs_mut().extend_pairs(self.form(query));
        }
        let mut sending = client().request(method, url);
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            sending = sending.header(name, self.header(value.as_str().unwrap()));
        }
        if let Some(form) = request["form"].as_object() {
            sending = sending.form(&self.form(form));
        }
        if let Some(body) = request["body"].as_str() {
            sending = sending.body(self.bound(body));
            sending = sending.header("content-type", request["content_type"].as_str().unwrap());
        }
        sending.send().await.unwrap()
    }

    fn header(&self, recorded: &str) -> String {
        let pair = recorded.strip_prefix("Basic base64(").and_then(|rest| rest.strip_suffix(')'));
        let Some((id, secret)) = pair.and_then(|pair| pair.split_once(':')) else {
            return self.bound(recorded);
        };
        basic(&self.bound(id), &self.bound(secret))
    }

    fn form(&self, recorded: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
        let field = |(name, value): (&String, &Value)| match value {
            Value::String(text) => (name.clone(), self.bound(text)),
            assertion => (name.clone(), self.assertion(assertion)),
        };
        recorded.iter().map(field).collect()
    }

    /// A client assertion as recorded, with times relative to now.
    fn assertion(&self, recorded: &Value) -> String {
        let bound = |part: &Value| -> Value { serde_json::from_str(&self.bound(&part.to_string())).unwrap() };
        let key = &self.keys[recorded["signed_with"].as_str().unwrap()];
        let mut claims = bound(&recorded["claims"]);
        for name in ["iat", "exp"] {
            if let Some(text) = claims[name].as_str() {
                claims[name] = relative_time(text).into();
            }
        }
        key.sign(&bound(&recorded["header"]), &claims)
    }

    async fn compare_answer(&self, answer: Response, case: &Value) -> Vec<String> {
        let mut found = Vec::new();
        if answer.status().as_u16() != case["status"] {
            found.push(format!("status {}", answer.status()));
        }
        for name in ["Content-Type", "Cache-Control", "Pragma", "Vary"] {
            let header = answer.headers().get(name).map(|value| value.to_str().unwrap());
            if header != case["headers"][name].as_str() {
                found.push(format!("{name}: {header:?}"));
            }
        }
        let has_cookie = answer.headers().contains_key("set-cookie");
        if has_cookie != case["headers"]["Set-Cookie"].is_string() {
            found.push("the cookie".to_owned());
        }
        let body = answer.text().await.unwrap();
        if Some(body.ends_with('\n')) != case["ends_with_newline"].as_bool() {
            found.push("the newline at the end".to_owned());
        }
        match case["case"].as_str().unwrap() {
            "wrong-host" if body.contains("Instance not found") => {}
            "wrong-host" => found.push(body),
            "keys" => found.extend(self.compare_keys(&body, case)),
            _ if case["body"] == "" => found.extend((!body.is_empty()).then_some(body)),
            _ => found.extend(self.compare("", &case["body"], &serde_json::from_str(&body).unwrap())),
        }
        found
    }

    fn compare_keys(&self, body: &str, case: &Value) -> Vec<String> {
        let actual: Value = serde_json::from_str(body).unwrap();
        self.compare("key", &case["body"]["keys"][0], &actual["keys"][0])
    }

    fn compare_key_file(&self, case: &Value) -> Vec<String> {
        let file: Value = serde_json::from_str(&self.world.api.key_json()).unwrap();
        let mut found = Vec::new();
        if !file["key"].as_str().unwrap().starts_with(case["pem_label"].as_str().unwrap()) {
            found.push("the PEM label".to_owned());
        }
        for name in ["type", "keyId", "clientId"] {
            found.extend(self.compare(name, &case["body"][name], &file[name]));
        }
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        if names(&file) != names(&case["body"]) {
            found.push("the fields".to_owned());
        }
        found
    }

    fn compare_jwt(&self, token: &str, case: &Value) -> Vec<String> {
        let (header, claims) = decode(token);
        let mut found = self.compare("header", &case["header"], &header);
        found.extend(self.compare("payload", &case["payload"], &claims));
        found
    }

    /// Every difference between a recorded value and an answered one: names, kinds, texts, Booleans and
    /// the order of lists; numbers are times and count by their kind.
    fn compare(&self, at: &str, recorded: &Value, actual: &Value) -> Vec<String> {
        match (recorded, actual) {
            (Value::Object(recorded), Value::Object(actual)) => {
                let recorded: BTreeMap<_, _> =
                    recorded.iter().map(|(name, value)| (self.bound(name), value)).collect();
                let missing = recorded.keys().filter(|name| !actual.contains_key(*name));
                let surplus = actual.keys().filter(|name| !recorded.contains_key(*name));
                let mut found: Vec<_> = missing.map(|name| format!("{at}: lacks {name}")).collect();
                found.extend(surplus.map(|name| format!("{at}: has {name}")));
                for (name, value) in recorded {
                    if let Some(actual) = actual.get(&name) {
                        found.extend(self.compare(&name, value, actual));
                    }
                }
                found
            }
            (Value::Array(recorded), Value::Array(actual)) if recorded.len() == actual.len() => {
                let pairs = recorded.iter().zip(actual);
                pairs.flat_map(|(recorded, actual)| self.compare(at, recorded, actual)).collect()
            }
            (Value::String(recorded), Value::String(actual)) => {
                let same = FRESH.contains(&at) || self.bound(recorded) == *actual;
                if same { Vec::new() } else { vec![format!("{at}: {actual:?}, recorded {recorded:?}")] }
            }
            (Value::Number(_), Value::Number(_)) => Vec::new(),
            (recorded, actual) if recorded == actual => Vec::new(),
            (recorded, actual) => vec![format!("{at}: {actual}, recorded {recorded}")],
        }
    }
}

/// `now-7200 s` in Unix seconds.
fn relative_time(text: &str) -> i64 {
    let offset: i64 = text.strip_prefix("now").unwrap().strip_suffix(" s").unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + offset
}
