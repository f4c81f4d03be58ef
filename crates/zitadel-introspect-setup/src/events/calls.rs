//! The calls about targets and executions.

use secrecy::SecretString;
use serde_json::{Value, json};
use zitadel_introspect::Management;

use crate::{
    answer::{Doing, Gone, all, at, text},
    error::SetupError,
    events::executions::{Executions, On},
    run::Run,
    step::{Sign, Step},
};

const WRITE_EXECUTION: &str = "action.execution.write";

/// A target as ZITADEL has it.
pub(super) struct Target {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) signing_key: SecretString,
}

pub(super) async fn targets(zitadel: &Management) -> Result<Vec<Target>, SetupError> {
    let doing = "looking for the targets of webhooks";
    let found = all(zitadel, "action.v2.ActionService/ListTargets", json!({}), "targets", doing).await?;
    let read = |found: &Value| {
        Ok(Target {
            id: text(found, "id", doing)?,
            name: text(found, "name", doing)?,
            endpoint: at(found, "/endpoint").to_owned(),
            signing_key: SecretString::from(at(found, "/signingKey")),
        })
    };
    found.iter().map(read).collect()
}

pub(super) async fn executions(zitadel: &Management) -> Result<Executions, SetupError> {
    let method = "action.v2.ActionService/ListExecutions";
    let found = all(zitadel, method, json!({}), "executions", "looking for the executions").await?;
    Ok(Executions::read(&found))
}

pub(super) async fn set_all(
    run: &mut Run<'_>,
    all: Vec<(On, Vec<String>)>,
    sign: Sign,
) -> Result<(), SetupError> {
    for (on, targets) in all {
        set(run, &on, &targets, sign).await?;
    }
    Ok(())
}

pub(super) async fn set(
    run: &mut Run<'_>,
    on: &On,
    targets: &[String],
    sign: Sign,
) -> Result<(), SetupError> {
    let step = Step::new("execution", on.name());
    let others = targets.len().saturating_sub(1);
    let step = match (sign, others) {
        (Sign::Create, 1..) => step.detail(format!("beside {others} of others")),
        _ => step,
    };
    if !run.may_set(&step, sign, WRITE_EXECUTION) {
        return Ok(());
    }
    let request = json!({"condition": on.to_json(), "targets": targets});
    let set = run.zitadel.call("action.v2.ActionService/SetExecution", &request).await;
    match set.doing(format!("setting the execution on {:?}", on.name())) {
        Err(SetupError::Call { error, .. }) if error.to_string().contains("condition is invalid") => {
            run.record(step.detail("left out: this ZITADEL has no such event").is(Sign::Same, true));
        }
        done => {
            done?;
            run.record(step.is(sign, true));
        }
    }
    Ok(())
}

pub(super) async fn remove_target(run: &mut Run<'_>, target: &Target) -> Result<(), SetupError> {
    let step = Step::new("target", &*target.name).id(&target.id);
    if !run.may_remove(&step, "action.target.delete") {
        return Ok(());
    }
    let request = json!({"id": target.id});
    let removed = run.zitadel.call("action.v2.ActionService/DeleteTarget", &request).await;
    removed.doing("removing the target").gone()?;
    run.record(step.is(Sign::Remove, true));
    Ok(())
}
