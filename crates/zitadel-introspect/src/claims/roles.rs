//! `{role: {organization id: domain}}`, ZITADEL's only shape of a role claim.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::members::{Broken, Members};
use crate::names::{OrganizationId, ProjectId, Role};

/// The generic claim: at introspection the roles of the asking API's own project.
pub(crate) const ROLES: &str = "urn:zitadel:iam:org:project:roles";

/// Roles on one project, each with the organizations that granted it.
// One block of memory with short names inside it, because each request reads it. Sorted by role. Shared, because an
// answer contains the same roles twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RoleGrants(Arc<[(Role, Organizations)]>);

/// Organizations by id, with their primary domains.
type Organizations = Box<[(OrganizationId, String)]>;

impl RoleGrants {
    /// Whether the role was granted by any organization.
    #[must_use]
    pub fn contains(&self, role: &str) -> bool {
        self.organizations(role).is_some()
    }

    /// Whether the role was granted in this organization.
    #[must_use]
    pub fn contains_in(&self, role: &str, organization: &OrganizationId) -> bool {
        self.organizations(role).is_some_and(|organizations| has(organizations, organization.as_str()))
    }

    /// Each role with the organizations that granted it: their ids and primary domains.
    pub fn iter(&self) -> impl Iterator<Item = (&Role, &[(OrganizationId, String)])> {
        self.0.iter().map(|(role, organizations)| (role, &**organizations))
    }

    /// Whether there is no role at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any role was granted in this organization.
    pub(crate) fn is_from(&self, organization: &str) -> bool {
        self.0.iter().any(|(_, organizations)| has(organizations, organization))
    }

    /// The bytes that the roles take in memory, or a little more.
    pub(crate) fn size(&self) -> usize {
        let organization =
            |(id, domain): &(OrganizationId, String)| id.as_str().len() + domain.capacity() + 64;
        let role = |(role, organizations): &(Role, Organizations)| {
            role.as_str().len() + 56 + organizations.iter().map(organization).sum::<usize>()
        };
        self.0.iter().map(role).sum()
    }

    #[cfg(test)]
    pub(crate) fn is_same_block(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn organizations(&self, role: &str) -> Option<&Organizations> {
        // A caller usually has few roles, in one block: a linear search is enough.
        let found = if self.0.len() <= 8 {
            self.0.iter().find(|(own, _)| own.as_str() == role)
        } else {
            let at = self.0.binary_search_by(|(own, _)| own.as_str().cmp(role)).ok();
            at.map(|at| &self.0[at])
        };
        found.map(|(_, organizations)| organizations)
    }

    /// Reads a role claim. A role or organization of any other shape is skipped; a name that comes twice makes the
    /// document unusable.
    pub(crate) fn read(claim: &RawValue) -> Result<Self, Broken> {
        let mut grants = Vec::new();
        let Some(roles) = Members::read_unique(claim, ROLES)? else {
            return Ok(Self::default());
        };
        for (role, raw) in roles.iter() {
            let Some(organizations) = Members::read_unique(raw, ROLES)? else { continue };
            let organizations: Organizations = organizations.iter().filter_map(organization).collect();
            if !organizations.is_empty() {
                grants.push((Role::from(role.to_owned()), organizations));
            }
        }
        Ok(Self(grants.into()))
    }
}

fn has(organizations: &Organizations, id: &str) -> bool {
    organizations.iter().any(|(own, _)| own.as_str() == id)
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
