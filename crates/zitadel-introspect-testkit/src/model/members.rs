//! Administrators.

use super::Id;

/// The roles of an administrator, and where they count.
pub(crate) struct Membership {
    pub(crate) user: Id,
    pub(crate) level: Level,
    pub(crate) roles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Level {
    Instance,
    Organization(Id),
    Project(Id),
}

/// The events of memberships on one level.
pub(crate) struct MembershipEvents {
    pub(crate) added: &'static str,
    pub(crate) changed: &'static str,
    pub(crate) removed: &'static str,
}

impl Level {
    pub(crate) fn events(&self) -> MembershipEvents {
        let (added, changed, removed) = match self {
            Self::Instance => ("instance.member.added", "instance.member.changed", "instance.member.removed"),
            Self::Organization(_) => ("org.member.added", "org.member.changed", "org.member.removed"),
            Self::Project(_) => ("project.member.added", "project.member.changed", "project.member.removed"),
        };
        MembershipEvents { added, changed, removed }
    }
}
