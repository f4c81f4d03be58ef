//! The event search, case by case as a running ZITADEL answered it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use reqwest::Method;
use serde_json::{Value, json};
use zitadel_introspect_testkit::{Issuer, Profile, Token, User};

use crate::world::client;

const RECORDING: &str = include_str!("../recordings/events-search.json");

/// The instance of the recording: a robot with seven events, a person, more than a thousand events in all.
struct Replay {
    issuer: Issuer,
    names: BTreeMap<&'static str, String>,
    tokens: BTreeMap<&'static str, Token>,
    /// Recorded times, and those of the same events here.
    times: Vec<(&'static str, i64)>,
}

const ROBOT: [&str; 7] = ["…255938Z", "…281522Z", "…344943Z", "…405834Z", "…468519Z", "…530851Z", "…594378Z"];

/// Searches that are not bound to one user: what they find depends on all that was done before.
const OF_THE_WHOLE: [&str; 3] = ["resource-owner", "editor", "sequence-many"];

impl Replay {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let robot = issuer.service_user("robot");
        let pats = [(); 3].map(|()| robot.pat());
        pats[0].revoke();
        pats[1].revoke();
        robot.set_metadata("team", "blue");
        let mut profile = Profile::default();
        (profile.email, profile.phone_number) = (Some("ada@example.com".into()), Some("+41791234567".into()));
        let ada = issuer.person("ada", profile);
        let with_role = |name: &str, role: Option<&str>| -> User {
            let user = issuer.service_user(name);
            if let Some(role) = role {
                user.set_instance_role(role);
            }
            user
        };
        let tokens = [
            ("owner pat", with_role("owner", Some("IAM_OWNER")).pat()),
            ("viewer pat", with_role("viewer", Some("IAM_OWNER_VIEWER")).pat()),
            ("orgowner pat", with_role("orgowner", Some("ORG_OWNER")).pat()),
            ("creator pat", with_role("creator", Some("ORG_PROJECT_CREATOR")).pat()),
            ("noone pat", with_role("noone", None).pat()),
            ("removed pat", {
                let removed = with_role("removed", Some("IAM_OWNER_VIEWER")).pat();
                removed.revoke();
                removed
            }),
        ];
        let crowd = with_role("crowd", None);
        for _ in 0..600 {
            crowd.lock();
            crowd.unlock();
        }
        let organization = issuer.default_organization().id();
        let owner = issuer.events()[0].user_id.clone().unwrap();
        let names =
            [("robot id", robot.id()), ("ada id", ada.id()), ("org", organization), ("owner id", owner)];
        let own = issuer.events();
        let of_user = |id: &str| {
            own.iter()
                .filter(|event| event.aggregate_id == id)
                .map(|event| micros(&event.created_at))
                .collect::<Vec<_>>()
        };
        let mut times: Vec<_> = ROBOT.into_iter().zip(of_user(&robot.id())).collect();
        times.push(("…388504Z", of_user(&ada.id())[0]));
        Self { issuer, names: names.into(), tokens: tokens.into(), times }
    }

    /// A recorded time as the time of the same event here; one that lies a little beside it stays beside it.
    fn time(&self, recorded: &str) -> Option<String> {
        let (local, offset) = match recorded.strip_suffix("+02:00") {
            Some(local) => (format!("{}Z", local.replace("T04", "T02")), true),
            None => (recorded.to_owned(), false),
        };
        let (head, fraction) = local.strip_suffix('Z')?.split_once('.')?;
        let second = head.rsplit_once(':')?.1;
        let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
        let of_event = |text: &str| -> i64 {
            let digits: i64 = text.trim_start_matches('…').trim_end_matches('Z').parse().unwrap();
            digits * 1000
        };
        let (recorded, own) = self
            .times
            .iter()
            .filter(|_| ["25", "30"].contains(&second))
            .min_by_key(|(event, _)| (of_event(event) - nanos).abs())?;
        let distance = nanos - of_event(recorded);
        // Cut to milliseconds it lies up to a millisecond before the event: here, before the same event and no other.
        let distance = if distance < -1000 { -1000 } else { distance };
        let nanos = own * 1000 + distance;
        let time = UNIX_EPOCH + Duration::from_nanos(nanos.unsigned_abs());
        let text = humantime::format_rfc3339_nanos(time).to_string();
        Some(if offset { text.replace('Z', "+00:00") } else { text })
    }

    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                if text.starts_with("2026-11-25T") && text.ends_with(['Z', '0']) && text.contains('.') {
                    return self.time(text).map_or_else(|| value.clone(), Value::from);
                }
                let text = self
                    .names
                    .iter()
                    .fold(text.clone(), |text, (name, own)| text.replace(&format!("<{name}>"), own));
                text.into()
            }
            Value::Array(list) => list.iter().map(|value| self.fill(value)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect()
            }
            other => other.clone(),
        }
    }

    async fn run(&self, case: &Value) -> Option<String> {
        let request = &case["request"];
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let url = format!("{}{}", self.issuer.url(), request["path"].as_str().unwrap());
        let mut asking = client().request(method, url);
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            let value = self
                .tokens
                .iter()
                .fold(value.to_owned(), |text, (name, own)| text.replace(&format!("<{name}>"), own));
            asking = asking.header(name, value);
        }
        asking = match &request["body"] {
            Value::Null => asking,
            Value::String(text) => asking.body(text.clone()),
            body => asking.body(self.fill(body).to_string()),
        };
        let answer = asking.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        if case["status"] != status {
            return Some(format!("status {status} in place of {}: {body}", case["status"]));
        }
        let name = case["case"].as_str().unwrap();
        if OF_THE_WHOLE.contains(&name) {
            let empty = body["events"].as_array().is_none_or(Vec::is_empty);
            return empty.then(|| "nothing found".to_owned());
        }
        let (found, expected) = (self.told(&body), self.expected(case));
        (found != expected).then(|| format!("{found} in place of {expected}"))
    }

    /// Errors by code and message; of what the decoder says, that it says it. Events by their numbers.
    fn told(&self, body: &Value) -> Value {
        if let Some(message) = body["message"].as_str() {
            let message = if message.starts_with("proto:") { "proto:" } else { message };
            return json!([body["code"], message, body["details"]]);
        }
        let Some(events) = body["events"].as_array() else { return body.clone() };
        let of = |name: &str| &self.names[name];
        let numbers = events.iter().map(|event| {
            let id = event["aggregate"]["id"].as_str().unwrap();
            let who = if id == of("robot id") {
                "robot"
            } else if id == of("ada id") {
                "ada"
            } else {
                return json!("another");
            };
            json!(format!("<{who} event {}>", event["sequence"].as_str().unwrap()))
        });
        let numbers: Vec<_> = numbers.collect();
        if numbers.contains(&json!("another")) { json!(numbers.len()) } else { json!(numbers) }
    }

    fn expected(&self, case: &Value) -> Value {
        let body = &case["body"];
        if body["message"].is_string() {
            return self.told(body);
        }
        let Some(events) = body["events"].as_array() else { return body.clone() };
        if let Some(count) = case["events_returned"].as_u64().filter(|count| *count > 100) {
            return json!(count);
        }
        if events.iter().any(Value::is_object) {
            let name = |event: &Value| match event["aggregate"]["id"].as_str() {
                Some(who @ ("<robot id>" | "<ada id>")) => {
                    let who = who.trim_start_matches('<').trim_end_matches(" id>");
                    json!(format!("<{who} event {}>", event["sequence"].as_str().unwrap()))
                }
                _ if event.is_string() => event.clone(),
                _ => json!("another"),
            };
            let names: Vec<_> = events.iter().map(name).collect();
            return if names.contains(&json!("another")) { json!(names.len()) } else { json!(names) };
        }
        if events.iter().any(|event| event == "…") {
            return json!((1..=7).rev().map(|number| format!("<robot event {number}>")).collect::<Vec<_>>());
        }
        json!(events)
    }
}

fn micros(text: &str) -> i64 {
    let time = humantime::parse_rfc3339(text).unwrap().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(time.as_micros()).unwrap()
}

#[tokio::test]
async fn all_recorded_searches_are_answered_as_zitadel_answered_them() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let cases = recording["cases"].as_array().unwrap();
    let replay = Replay::new().await;
    let mut differing = Vec::new();
    for case in cases {
        let found = replay.run(case).await;
        differing.extend(found.map(|difference| format!("{}: {difference}", case["case"])));
    }
    // Past the capture of the test harness: the line is part of the proof.
    writeln!(io::stderr(), "{} searches, {} differ", cases.len(), differing.len()).unwrap();
    assert_eq!(cases.len(), 83);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
