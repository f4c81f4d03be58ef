//! Service users, with a personal access token or a key.

use serde_json::{Value, json};
use zitadel_introspect::{AccessToken, Management, RefusalKind};

use secrecy::SecretString;

use crate::{
    answer::{Doing, Gone, all, at, decoded, list, text},
    error::SetupError,
    expiry,
    organization::Organization,
    run::{PERHAPS, Run, shown},
    secret::{Made, Secret, SecretFile, State},
    step::Step,
};

pub(crate) const READS: [&str; 1] = ["user.read"];
pub(crate) const WRITE: &str = "user.write";

/// The service user of this name in the organization.
pub(crate) async fn ensure(
    run: &mut Run<'_>,
    organization: &Organization,
    name: &str,
    is_expected: bool,
) -> Result<Option<String>, SetupError> {
    let zitadel = run.zitadel;
    let find = async || find(zitadel, organization, name).await;
    let make = async || create(zitadel, organization, name).await;
    run.ensure(Step::new("service user", name), is_expected, WRITE, find, make).await
}

/// The id of a service user.
pub(crate) async fn find(
    zitadel: &Management,
    organization: &Organization,
    name: &str,
) -> Result<Option<String>, SetupError> {
    let doing = format!("looking for the service user {name:?}");
    let request = json!({"queries": [
        {"userNameQuery": {"userName": name, "method": "TEXT_QUERY_METHOD_EQUALS"}},
        {"organizationIdQuery": {"organizationId": organization.id}},
    ]});
    let answer = zitadel.call("user.v2.UserService/ListUsers", &request).await.doing(&*doing)?;
    let Some(found) = list(&answer, "result").first() else { return Ok(None) };
    let remedy = "choose another name for the service user";
    if found.get("machine").is_none() {
        return Err(SetupError::conflict("user", name, "is a person", remedy));
    }
    if at(found, "/state") != "USER_STATE_ACTIVE" {
        return Err(SetupError::conflict("service user", name, "is deactivated or locked", remedy));
    }
    text(found, "userId", &doing).map(Some)
}

pub(crate) async fn create(
    zitadel: &Management,
    organization: &Organization,
    name: &str,
) -> Result<String, SetupError> {
    let doing = format!("making the service user {name:?}");
    let request = json!({"organizationId": organization.id, "username": name, "machine": {"name": name}});
    let answer = zitadel.call("user.v2.UserService/CreateUser", &request).await.doing(&*doing)?;
    text(&answer, "id", &doing)
}

pub(crate) async fn delete(zitadel: &Management, user: &str) -> Result<(), SetupError> {
    let request = json!({"userId": user});
    zitadel.call("user.v2.UserService/DeleteUser", &request).await.doing("removing the service user").gone()
}

/// The personal access token of a service user, in a file.
pub(crate) async fn ensure_token(
    run: &mut Run<'_>,
    user: Option<&str>,
    name: &str,
    file: &SecretFile<'_>,
) -> Result<(), SetupError> {
    let zitadel = run.zitadel;
    let user = user.unwrap_or_default();
    let secret = Secret {
        step: Step::new("token", name).file(file.path),
        right: WRITE,
        check: async |text: &str| check_token(zitadel, user, text).await,
        remove_lost: async |end: &str| remove_lost_token(zitadel, user, end).await,
        make: async |end: &str| make_token(zitadel, user, end).await,
    };
    secret.ensure(run, file).await
}

/// The text of a token does not say whose it is: ZITADEL does.
async fn check_token(zitadel: &Management, user: &str, text: &str) -> Result<State, SetupError> {
    let Ok(token) = text.parse::<AccessToken>() else { return Ok(State::Foreign("holds no token")) };
    let asked = zitadel.with_token(&token).get("/auth/v1/users/me").await;
    match asked.doing("asking whose token the file holds") {
        Ok(answer) if at(&answer, "/user/id") == user => Ok(State::Good { id: user.to_owned() }),
        Ok(_) => Ok(State::Foreign("holds the token of another user")),
        Err(error) if error.is(RefusalKind::Unauthenticated) => Ok(State::Dead),
        Err(error) => Err(error),
    }
}

async fn remove_lost_token(zitadel: &Management, user: &str, end: &str) -> Result<(), SetupError> {
    let find = async || {
        let request = json!({"filters": [{"userIdFilter": {"id": user}}]});
        let method = "user.v2.UserService/ListPersonalAccessTokens";
        let tokens = all(zitadel, method, request, "result", "looking for the tokens of the user").await?;
        Ok(tokens.into_iter().find(|token| expiry::is_same(at(token, "/expirationDate"), end)))
    };
    match shown(find, PERHAPS).await? {
        Some(lost) => remove_token(zitadel, user, at(&lost, "/id")).await,
        None => Ok(()),
    }
}

pub(crate) async fn remove_token(zitadel: &Management, user: &str, token: &str) -> Result<(), SetupError> {
    let request = json!({"userId": user, "tokenId": token});
    let method = "user.v2.UserService/RemovePersonalAccessToken";
    zitadel.call(method, &request).await.doing("removing a token").gone()
}

pub(crate) async fn make_token(zitadel: &Management, user: &str, end: &str) -> Result<Made, SetupError> {
    let doing = "making the token of the service user";
    let request = json!({"userId": user, "expirationDate": end});
    let method = "user.v2.UserService/AddPersonalAccessToken";
    let answer = zitadel.call(method, &request).await.doing(doing)?;
    let token = text(&answer, "token", doing)?;
    Ok(Made { id: text(&answer, "tokenId", doing)?, text: SecretString::from(token) })
}

/// The key of a service user, in a file.
pub(crate) async fn ensure_key(
    run: &mut Run<'_>,
    user: Option<&str>,
    file: &SecretFile<'_>,
) -> Result<(), SetupError> {
    let zitadel = run.zitadel;
    let user = user.unwrap_or_default();
    let secret = Secret {
        step: Step::new("key", file.path.display().to_string()).file(file.path),
        right: WRITE,
        check: async |text: &str| check_key(zitadel, user, text).await,
        remove_lost: async |end: &str| remove_lost_key(zitadel, user, end).await,
        make: async |end: &str| make_key(zitadel, user, end).await,
    };
    secret.ensure(run, file).await
}

async fn check_key(zitadel: &Management, user: &str, text: &str) -> Result<State, SetupError> {
    let key: Value = serde_json::from_str(text).unwrap_or_default();
    let id = at(&key, "/keyId");
    if at(&key, "/userId") != user || id.is_empty() {
        return Ok(State::Foreign("holds no key of this service user"));
    }
    if expiry::is_over(at(&key, "/expirationDate")) {
        return Ok(State::Dead);
    }
    let removed = events(zitadel, user, "user.machine.key.removed").await?;
    let is_it = |event: &Value| at(event, "/payload/keyId") == id;
    Ok(if removed.iter().any(is_it) { State::Dead } else { State::Good { id: id.to_owned() } })
}

/// Nothing lists the keys of a service user but its events.
async fn remove_lost_key(zitadel: &Management, user: &str, end: &str) -> Result<(), SetupError> {
    let find = async || {
        let added = events(zitadel, user, "user.machine.key.added").await?;
        Ok(added.into_iter().find(|event| expiry::is_same(at(event, "/payload/expirationDate"), end)))
    };
    let Some(lost) = shown(find, PERHAPS).await? else { return Ok(()) };
    let request = json!({"userId": user, "keyId": at(&lost, "/payload/keyId")});
    zitadel.call("user.v2.UserService/RemoveKey", &request).await.doing("removing a lost key").gone()
}

async fn events(zitadel: &Management, user: &str, kind: &str) -> Result<Vec<Value>, SetupError> {
    let request = json!({"aggregateId": user, "aggregateTypes": ["user"], "eventTypes": [kind]});
    let answer = zitadel.post("/admin/v1/events/_search", None, &request).await;
    let answer = answer.doing("looking for the keys of the service user")?;
    Ok(list(&answer, "events").to_vec())
}

async fn make_key(zitadel: &Management, user: &str, end: &str) -> Result<Made, SetupError> {
    let doing = "making the key of the service user";
    let request = json!({"userId": user, "expirationDate": end});
    let answer = zitadel.call("user.v2.UserService/AddKey", &request).await.doing(doing)?;
    let text_of_key = decoded(&answer, "keyContent", doing)?;
    Ok(Made { id: text(&answer, "keyId", doing)?, text: text_of_key })
}
