//! The API application and its key.

use serde_json::{Value, json};
use zitadel_introspect::Management;

use crate::{
    answer::{self, Doing, Gone, all, at, decoded, list, text},
    error::SetupError,
    expiry,
    run::{PERHAPS, Run, shown},
    secret::{Made, Secret, SecretFile, State},
    step::Step,
};

pub(crate) const READS: [&str; 1] = ["project.app.read"];
const WRITE: &str = "project.app.write";
const PRIVATE_KEY_JWT: &str = "API_AUTH_METHOD_TYPE_PRIVATE_KEY_JWT";

/// The API application of this name in the project, which authenticates by a key.
pub(crate) async fn ensure(
    run: &mut Run<'_>,
    project: Option<&str>,
    name: &str,
    is_expected: bool,
) -> Result<Option<String>, SetupError> {
    let zitadel = run.zitadel;
    let find = async || {
        let Some(project) = project else { return Ok(None) };
        let doing = format!("looking for the application {name:?}");
        let request = json!({"filters": [
            {"projectIdFilter": {"projectId": project}},
            {"nameFilter": {"name": name, "method": "TEXT_FILTER_METHOD_EQUALS"}},
        ]});
        let method = "application.v2.ApplicationService/ListApplications";
        let answer = zitadel.call(method, &request).await.doing(&*doing)?;
        let Some(found) = list(&answer, "applications").first() else { return Ok(None) };
        check(found, name)?;
        text(found, "applicationId", &doing).map(Some)
    };
    let make = async || {
        let doing = format!("making the application {name:?}");
        let request = json!({
            "projectId": project,
            "name": name,
            "apiConfiguration": {"authMethodType": PRIVATE_KEY_JWT},
        });
        let method = "application.v2.ApplicationService/CreateApplication";
        let answer = zitadel.call(method, &request).await.doing(&*doing)?;
        text(&answer, "applicationId", &doing)
    };
    run.ensure(Step::new("application", name), is_expected, WRITE, find, make).await
}

fn check(found: &Value, name: &str) -> Result<(), SetupError> {
    let remedy = "choose another name for the application";
    if at(found, "/state") == "APPLICATION_STATE_INACTIVE" {
        return Err(SetupError::conflict("application", name, "is deactivated", remedy));
    }
    if at(found, "/apiConfiguration/authMethodType") != PRIVATE_KEY_JWT {
        let problem = "is not an API that authenticates by a key (private key JWT)";
        return Err(SetupError::conflict("application", name, problem, remedy));
    }
    Ok(())
}

/// The key of an application, in a file.
pub(crate) async fn ensure_key(
    run: &mut Run<'_>,
    project: Option<&str>,
    application: Option<&str>,
    file: &SecretFile<'_>,
) -> Result<(), SetupError> {
    let zitadel = run.zitadel;
    let step = Step::new("key", file.path.display().to_string()).file(file.path);
    let (project, application) = (project.unwrap_or_default(), application.unwrap_or_default());
    let secret = Secret {
        step,
        right: WRITE,
        check: async |text: &str| check_key(zitadel, application, text).await,
        remove_lost: async |end: &str| remove_lost(zitadel, project, application, end).await,
        make: async |end: &str| make(zitadel, project, application, end).await,
    };
    secret.ensure(run, file).await
}

/// Whether the key in the file is this application's, and ZITADEL still has it.
async fn check_key(zitadel: &Management, application: &str, text: &str) -> Result<State, SetupError> {
    let key: Value = serde_json::from_str(text).unwrap_or_default();
    let id = at(&key, "/keyId");
    if at(&key, "/appId") != application || id.is_empty() {
        return Ok(State::Foreign("holds no key of this application"));
    }
    let find = async || {
        let keys = keys(zitadel, application).await?;
        Ok(keys.into_iter().find(|key| at(key, "/keyId") == id))
    };
    let is_good = |key: Value| !expiry::is_over(at(&key, "/expirationDate"));
    let is_good = shown(find, PERHAPS).await?.is_some_and(is_good);
    Ok(if is_good { State::Good { id: id.to_owned() } } else { State::Dead })
}

/// Removes a key that ZITADEL has made and whose answer never came.
async fn remove_lost(
    zitadel: &Management,
    project: &str,
    application: &str,
    end: &str,
) -> Result<(), SetupError> {
    let find = async || {
        let keys = keys(zitadel, application).await?;
        Ok(keys.into_iter().find(|key| expiry::is_same(at(key, "/expirationDate"), end)))
    };
    let Some(lost) = shown(find, PERHAPS).await? else { return Ok(()) };
    let request = json!({"keyId": lost["keyId"], "applicationId": application, "projectId": project});
    let method = "application.v2.ApplicationService/DeleteApplicationKey";
    zitadel.call(method, &request).await.doing("removing a key that was never received").gone()
}

async fn keys(zitadel: &Management, application: &str) -> Result<Vec<Value>, SetupError> {
    let request = json!({"filters": [{"applicationIdFilter": {"applicationId": application}}]});
    let method = "application.v2.ApplicationService/ListApplicationKeys";
    all(zitadel, method, request, "keys", "looking for the keys of the application").await
}

async fn make(zitadel: &Management, project: &str, application: &str, end: &str) -> Result<Made, SetupError> {
    let doing = "making the key of the application";
    let request = json!({"applicationId": application, "projectId": project, "expirationDate": end});
    let method = "application.v2.ApplicationService/CreateApplicationKey";
    let answer = zitadel.call(method, &request).await.doing(doing)?;
    let text = decoded(&answer, "keyDetails", doing)?;
    Ok(Made { id: answer::text(&answer, "keyId", doing)?, text })
}
