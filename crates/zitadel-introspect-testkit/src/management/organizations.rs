//! Organizations.

use serde_json::{Value, json};

use crate::{
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
    },
    model::{Organization, State},
};

/// `org.v2.OrganizationService/ListOrganizations`
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("queries", "SearchQuery.Query")?;
    let default = call.state.organizations[0].id.clone();
    let matches = |organization: &&Organization| {
        filters.iter().all(|(name, wanted)| match &**name {
            "idQuery" => wanted["id"] == organization.id,
            "nameQuery" => wanted["name"] == organization.name,
            "domainQuery" => wanted["domain"] == organization.domain,
            "defaultQuery" => organization.id == default,
            _ => true,
        })
    };
    let items = call.state.organizations.iter().filter(matches).map(|own| Item {
        created: call.state.created(&own.id),
        name: own.name.clone(),
        is_seen: call.sees(&own.id, "org.read"),
        shown: shown(call.state, own, "ORGANIZATION_STATE_ACTIVE"),
    });
    page(call, items.collect(), &Shape::Details { counts_hidden: true })
}

/// `GET /management/v1/orgs/me`
pub(crate) fn own(call: &mut Call<'_>) -> Outcome {
    call.may("org.read")?;
    Ok(of_id(call, &call.organization))
}

/// `GET /admin/v1/orgs/default`
pub(crate) fn default(call: &mut Call<'_>) -> Outcome {
    call.may("iam.read")?;
    Ok(of_id(call, &call.state.organizations[0].id))
}

fn of_id(call: &Call<'_>, id: &str) -> Value {
    let found = call.state.organizations.iter().find(|own| own.id == id);
    json!({"org": found.map(|own| shown(call.state, own, "ORG_STATE_ACTIVE"))})
}

fn shown(state: &State, organization: &Organization, active: &str) -> Value {
    let Organization { id, name, domain } = organization;
    json!({"id": id, "details": state.details(id, id), "state": active, "name": name, "primaryDomain": domain})
}
