//! The administrator who runs the set-up, and the permissions that ZITADEL gives to this user.
//!
//! A list of ZITADEL hides what the caller may not see, so an empty list proves nothing: the rights are asked for first.

use std::collections::BTreeSet;

use serde_json::json;
use zitadel_introspect::{Management, RefusalKind};

use crate::{
    answer::{Doing, at, list, text},
    error::SetupError,
    organization::{self, Organization},
};

const ASKING: &str = "asking whose token this is";

/// The user of the token, in the organization in which the set-up works.
#[derive(Debug)]
pub(crate) struct Administrator {
    pub(crate) organization: Organization,
    /// The names of ZITADEL's permissions.
    rights: BTreeSet<String>,
    roles_of_instance: Vec<String>,
}

/// A user without any role does not even see the name of its organization.
async fn own_organization(zitadel: &Management, id: String) -> Result<Organization, SetupError> {
    match organization::find(zitadel, &id).await {
        Err(SetupError::Conflict { .. }) => Ok(Organization { name: id.clone(), id }),
        found => found,
    }
}

/// The least role with which a set-up works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// `ORG_OWNER` of the organization.
    OrganizationOwner,
    /// `IAM_OWNER`.
    InstanceOwner,
}

impl Administrator {
    /// Asks ZITADEL; the organization is the token's own unless one is named, by its id or its name.
    pub(crate) async fn ask(zitadel: &Management, named: Option<&str>) -> Result<Self, SetupError> {
        let me = zitadel.get("/auth/v1/users/me").await.doing(ASKING)?;
        let own = text(me.pointer("/user/details").unwrap_or(&me), "resourceOwner", ASKING)?;
        let found = zitadel.post("/auth/v1/memberships/me/_search", None, &json!({})).await.doing(ASKING)?;
        let of_instance = list(&found, "result").iter().filter(|role| role["iam"] == true);
        let roles_of_instance = of_instance.flat_map(|role| list(role, "roles"));
        let roles_of_instance =
            roles_of_instance.filter_map(|role| role.as_str().map(str::to_owned)).collect();
        let organization = match named {
            Some(named) => organization::find(zitadel, named).await?,
            None => own_organization(zitadel, own).await?,
        };
        let path = "/auth/v1/permissions/zitadel/me/_search";
        let asked = zitadel.post(path, Some(&organization.id), &json!({})).await;
        let rights = match asked.doing(ASKING) {
            Err(error) if error.is(RefusalKind::NoPermission) => BTreeSet::new(),
            answer => list(&answer?, "result").iter().map(|right| at(right, "").to_owned()).collect(),
        };
        Ok(Self { organization, rights, roles_of_instance })
    }

    /// All of these rights, or an error that says who can give the missing ones.
    pub(crate) fn check(
        &self,
        rights: impl IntoIterator<Item = &'static str>,
        needs: Needs,
    ) -> Result<(), SetupError> {
        let missing: BTreeSet<_> = rights.into_iter().filter(|right| !self.rights.contains(*right)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let Organization { id, name } = &self.organization;
        let remedy = match needs {
            Needs::OrganizationOwner => format!(
                "an owner of the organization {name:?} ({id}) or of the instance can make its user an ORG_OWNER of that \
                organization (in the Console: Organization, Administrators)"
            ),
            Needs::InstanceOwner => {
                "an IAM_OWNER can make its user an IAM_OWNER (in the Console: Default settings, \
                                     Administrators)"
                    .to_owned()
            }
        };
        Err(SetupError::MissingRights { rights: missing.into_iter().collect(), remedy })
    }

    /// The power of the token beyond what is needed.
    pub(crate) fn excess(&self, needs: Needs) -> Option<String> {
        (needs == Needs::OrganizationOwner && !self.roles_of_instance.is_empty()).then(|| {
            format!(
                "the administrator's token has {} on the whole instance; an ORG_OWNER of the organization {:?} is enough \
                for this set-up",
                self.roles_of_instance.join(", "),
                self.organization.name,
            )
        })
    }
}
