//! The organization that owns what is made. ZITADEL takes any id for one, also that of no organization: so it is looked up.

use serde_json::json;
use zitadel_introspect::Management;

use crate::{
    answer::{Doing, at, list},
    error::SetupError,
};

#[derive(Debug, Clone)]
pub(crate) struct Organization {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// By its id or its name.
pub(crate) async fn find(zitadel: &Management, named: &str) -> Result<Organization, SetupError> {
    let doing = format!("looking for the organization {named:?}");
    for query in [json!({"idQuery": {"id": named}}), json!({"nameQuery": {"name": named}})] {
        let request = json!({"queries": [query]});
        let answer =
            zitadel.call("org.v2.OrganizationService/ListOrganizations", &request).await.doing(&*doing)?;
        if let [found] = list(&answer, "result") {
            return Ok(Organization { id: at(found, "/id").to_owned(), name: at(found, "/name").to_owned() });
        }
    }
    let problem = "is no id and no name of an organization that the token can see";
    let remedy = "name an organization in which the token's user is an administrator";
    Err(SetupError::conflict("organization", named, problem, remedy))
}
