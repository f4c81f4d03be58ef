//! `{role: {organization id: domain}}`, ZITADEL's only shape of a role claim.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::members::{Broken, Members};
use crate::names::{OrganizationId, ProjectId, Role};

/// The generic claim: at introspection the roles of the asking API's own project.
pub(crate) const ROLES: &str = "urn:zitadel:iam:org:project:roles";

/// Roles on one project, each with the organizations that granted it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleGrants(BTreeMap<Role, BTreeMap<OrganizationId, String>>);

impl RoleGrants {
    /// Whether the role was granted by any organization.
    #[must_use]
    pub fn contains(&self, role: &str) -> bool {
        self.0.contains_key(role)
    }

    /// Whether the role was granted in this organization.
    #[must_use]
    pub fn contains_in(&self, role: &str, organization: &str) -> bool {
        self.0.get(role).is_some_and(|organizations| organizations.contains_key(organization))
    }

    /// Each role with the organizations that granted it: their ids and primary domains.
    pub fn iter(&self) -> impl Iterator<Item = (&Role, &BTreeMap<OrganizationId, String>)> {
        self.0.iter()
    }

    /// Whether there is no role at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a role claim. Any other shape grants nothing and costs only the role; a name that comes
    /// twice breaks the document.
    pub(crate) fn read(claim: &RawValue) -> Result<Self, Broken> {
        let mut grants = BTreeMap::new();
        let Some(roles) = Members::read_unique(claim, ROLES)? else {
            return Ok(Self::default());
        };
        for (role, raw) in roles.iter() {
            let Some(organizations) = Members::read_unique(raw, ROLES)? else { continue };
            let domains: Option<BTreeMap<_, _>> = organizations.iter().map(organization).collect();
            if let Some(domains) = domains.filter(|domains| !domains.is_empty()) {
                grants.insert(Role::from(role.to_owned()), domains);
            }
        }
        Ok(Self(grants))
    }
}

fn organization((id, domain): (&str, &RawValue)) -> Option<(OrganizationId, String)> {
    let domain = serde_json::from_str(domain.get()).ok()?;
    (!id.is_empty()).then(|| (OrganizationId::from(id.to_owned()), domain))
}

/// The project of a per-project role claim, `urn:zitadel:iam:org:project:{projectId}:roles`.
pub(crate) fn project_of(claim: &str) -> Option<ProjectId> {
    let id = claim.strip_prefix("urn:zitadel:iam:org:project:")?.strip_suffix(":roles")?;
    (!id.is_empty()).then(|| ProjectId::from(id.to_owned()))
}
