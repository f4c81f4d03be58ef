//! What a route requires of its caller, and the check of a caller against it.

use std::time::Duration;

use crate::{
    claims::{Claims, RoleGrants},
    error::Reason,
    names::{OrganizationId, ProjectId, Role, Scope},
};

/// What a route asks of its caller: roles, scopes, an organization, and combinations of these.
///
/// A role is a role on the API's own project, granted by any organization, unless
/// [`in_organization`](Self::in_organization) or [`in_project`](Self::in_project) says otherwise. Names are
/// case-sensitive and compared whole.
///
/// ```
/// use zitadel_introspect::Requirement;
///
/// let anybody = Requirement::any_caller();
/// let admin = Requirement::role("admin");
/// let either = Requirement::any_role(["admin", "editor"]);
/// let strict = Requirement::role("admin").and(Requirement::scope("tasks:write"));
/// # let path_parameter = String::from("400949520696937510");
/// let tenant = Requirement::role("editor").in_organization(path_parameter);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    rule: Rule,
    ages: Ages,
}

/// The oldest verdict that a requirement accepts; each in its own measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ages {
    /// Since the verdict was last known to be true.
    pub(crate) fresh_within: Option<Duration>,
    /// Since the issuer was asked.
    pub(crate) asked_within: Option<Duration>,
}

impl Ages {
    #[inline]
    pub(crate) fn are_set(self) -> bool {
        self.fresh_within.is_some() || self.asked_within.is_some()
    }

    /// No answer to a question that is older than this will do.
    pub(crate) fn least(self) -> Option<Duration> {
        self.fresh_within.into_iter().chain(self.asked_within).min()
    }

    fn stricter(self, other: Self) -> Self {
        let least = |one: Option<Duration>, two: Option<Duration>| one.into_iter().chain(two).min();
        Self {
            fresh_within: least(self.fresh_within, other.fresh_within),
            asked_within: least(self.asked_within, other.asked_within),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Role { role: Role, organization: Option<OrganizationId>, project: Option<ProjectId> },
    Scope(Scope),
    Organization(OrganizationId),
    All(Vec<Rule>),
    Any(Vec<Rule>),
}

/// The role of a typed extractor: implement this trait for a marker type of your own.
///
/// ```
/// use zitadel_introspect::RequiredRole;
///
/// struct Admin;
///
/// impl RequiredRole for Admin {
///     const ROLE: &'static str = "admin";
/// }
/// ```
pub trait RequiredRole {
    /// The role's key on the project.
    const ROLE: &'static str;
}

impl Requirement {
    /// Any caller with a valid token.
    #[must_use]
    pub fn any_caller() -> Self {
        Self::new(Rule::All(Vec::new()))
    }

    /// One role.
    pub fn role(role: impl Into<Role>) -> Self {
        Self::new(Rule::Role { role: role.into(), organization: None, project: None })
    }

    /// At least one of several roles. An empty list is never met.
    pub fn any_role<R: Into<Role>>(roles: impl IntoIterator<Item = R>) -> Self {
        Self::new(Rule::Any(roles.into_iter().map(|role| Self::role(role).rule).collect()))
    }

    /// All of several roles. An empty list is never met, so that a list that was lost fails closed.
    pub fn all_roles<R: Into<Role>>(roles: impl IntoIterator<Item = R>) -> Self {
        let all: Vec<_> = roles.into_iter().map(|role| Self::role(role).rule).collect();
        if all.is_empty() { Self::nobody() } else { Self::new(Rule::All(all)) }
    }

    /// One scope of the token.
    pub fn scope(scope: impl Into<Scope>) -> Self {
        Self::new(Rule::Scope(scope.into()))
    }

    /// A caller who belongs to this organization (ZITADEL: resource owner). The client must have asked for the scope
    /// `urn:zitadel:iam:user:resourceowner`; personal access tokens carry this scope.
    pub fn organization(organization: impl Into<OrganizationId>) -> Self {
        Self::new(Rule::Organization(organization.into()))
    }

    /// Narrows the roles named so far to those granted in one organization.
    ///
    /// Where no role was named, the caller's own organization must be this one, as with
    /// [`organization`](Self::organization). A scope that is an alternative to a role is not narrowed.
    #[must_use]
    pub fn in_organization(mut self, organization: impl Into<OrganizationId>) -> Self {
        let id = organization.into();
        let mut named = false;
        self.rule.each_role(&mut |place, _| {
            named = true;
            *place = Some(id.clone());
        });
        if named { self } else { self.and(Self::organization(id)) }
    }

    /// Looks for the roles named so far in the claim of the given project instead of our own project. If no role was
    /// named, the requirement is never met.
    #[must_use]
    pub fn in_project(mut self, project: impl Into<ProjectId>) -> Self {
        let id = project.into();
        let mut named = false;
        self.rule.each_role(&mut |_, place| {
            named = true;
            *place = Some(id.clone());
        });
        if named { self } else { self.and(Self::nobody()) }
    }

    /// Both this and another requirement.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let ages = self.ages.stricter(other.ages);
        Self { rule: Rule::All(vec![self.rule, other.rule]), ages }
    }

    /// This or another requirement.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let ages = self.ages.stricter(other.ages);
        Self { rule: Rule::Any(vec![self.rule, other.rule]), ages }
    }

    /// How old the issuer's answer may be. An older verdict, or a verdict that was made by verifying a JWT locally, is
    /// renewed first. With an [`EventFeed`](crate::EventFeed) it means that no event up to then has ended the verdict:
    /// 2 s then cost no question ([`asked_within`](Self::asked_within) asks for the issuer's own word). `Duration::ZERO` always asks the issuer, except that a held refusal is reused
    /// ([`negative_cache_ttl`](crate::VerifierBuilder::negative_cache_ttl)). In combinations the strictest counts for all.
    ///
    /// Cheap reads, strict writes, in one line:
    ///
    /// ```
    /// use std::time::Duration;
    /// use zitadel_introspect::Requirement;
    ///
    /// let delete = Requirement::role("admin").fresh_within(Duration::ZERO);
    /// ```
    #[must_use]
    pub fn fresh_within(mut self, age: Duration) -> Self {
        self.ages = self.ages.stricter(Ages { fresh_within: Some(age), asked_within: None });
        self
    }

    /// Accepts only verdicts for which the issuer itself was asked within this time, whatever its events say.
    ///
    /// Like [`fresh_within`](Self::fresh_within), but an event feed does not count: for what must be the issuer's own
    /// word, such as roles that a ZITADEL action computes.
    #[must_use]
    pub fn asked_within(mut self, age: Duration) -> Self {
        self.ages = self.ages.stricter(Ages { fresh_within: None, asked_within: Some(age) });
        self
    }

    pub(crate) fn ages(&self) -> Ages {
        self.ages
    }

    fn nobody() -> Self {
        Self::new(Rule::Any(Vec::new()))
    }

    fn new(rule: Rule) -> Self {
        Self { rule, ages: Ages::default() }
    }

    pub(crate) fn is_met(&self, claims: &Claims) -> bool {
        self.rule.is_met(claims)
    }

    /// Names the first thing that is missing.
    pub(crate) fn check(&self, claims: &Claims) -> Result<(), Reason> {
        self.rule.check(claims)
    }
}

impl Rule {
    fn is_met(&self, claims: &Claims) -> bool {
        match self {
            Self::Role { role, organization, project } => {
                let grants = match project {
                    Some(project) => claims.project_roles(project),
                    None => Some(claims.roles()),
                };
                grants.is_some_and(|grants| has_role(grants, role, organization.as_ref()))
            }
            Self::Scope(scope) => claims.has_scope(scope.as_str()),
            Self::Organization(id) => claims.organization_id() == Some(id.as_str()),
            Self::All(rules) => rules.iter().all(|rule| rule.is_met(claims)),
            Self::Any(rules) => rules.iter().any(|rule| rule.is_met(claims)),
        }
    }

    fn check(&self, claims: &Claims) -> Result<(), Reason> {
        if self.is_met(claims) {
            return Ok(());
        }
        Err(match self {
            Self::Role { role, .. } => Reason::MissingRole { role: role.clone() },
            Self::Scope(scope) => Reason::MissingScope { scope: scope.clone() },
            Self::Organization(_) => Reason::MissingOrganization,
            Self::All(rules) => return rules.iter().try_for_each(|rule| rule.check(claims)),
            Self::Any(rules) => return check_any(rules, claims),
        })
    }

    fn each_role(&mut self, change: &mut impl FnMut(&mut Option<OrganizationId>, &mut Option<ProjectId>)) {
        match self {
            Self::Role { organization, project, .. } => change(organization, project),
            Self::All(rules) | Self::Any(rules) => {
                for rule in rules {
                    rule.each_role(change);
                }
            }
            Self::Scope(_) | Self::Organization(_) => {}
        }
    }
}

fn has_role(grants: &RoleGrants, role: &Role, organization: Option<&OrganizationId>) -> bool {
    match organization {
        Some(organization) => grants.contains_in(role.as_str(), organization),
        None => grants.contains(role.as_str()),
    }
}

fn check_any(rules: &[Rule], claims: &Claims) -> Result<(), Reason> {
    let mut missing = Vec::new();
    for rule in rules {
        match rule.check(claims) {
            Ok(()) => return Ok(()),
            Err(reason) => missing.push(reason),
        }
    }
    match missing.pop() {
        Some(only) if missing.is_empty() => Err(only),
        last => Err(Reason::MissingAny { alternatives: missing.into_iter().chain(last).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn claims() -> Claims {
        let document = json!({
            "active": true,
            "scope": "openid tasks:read",
            "urn:zitadel:iam:org:project:roles": {"admin": {"1": "one.example"}, "viewer": {"2": "two.example"}},
            "urn:zitadel:iam:org:project:77:roles": {"editor": {"1": "one.example"}},
            "urn:zitadel:iam:user:resourceowner:id": "1",
        });
        Claims::from_introspection(document.to_string(), None).unwrap().unwrap()
    }

    fn missing(requirement: &Requirement) -> Option<String> {
        requirement.check(&claims()).err().map(|reason| reason.to_string())
    }

    #[test]
    fn requirements_that_are_met_pass() {
        for met in [
            Requirement::any_caller(),
            Requirement::role("admin"),
            Requirement::any_role(["nobody", "viewer"]),
            Requirement::all_roles(["admin", "viewer"]),
            Requirement::role("admin").in_organization("1"),
            Requirement::role("editor").in_project("77").in_organization("1"),
            Requirement::scope("tasks:read"),
            Requirement::organization("1"),
            Requirement::role("nobody").or(Requirement::scope("openid").and(Requirement::role("viewer"))),
        ] {
            assert_eq!(missing(&met), None, "{met:?}");
        }
    }

    #[test]
    fn a_denial_names_what_is_missing_as_the_requirement_spells_it() {
        for (unmet, text) in [
            (Requirement::role("Admin"), "missing required role: `Admin`"),
            (Requirement::role("admi"), "missing required role: `admi`"),
            (Requirement::role("admin").in_organization("2"), "missing required role: `admin`"),
            (Requirement::role("admin").in_project("77"), "missing required role: `admin`"),
            (Requirement::role("editor"), "missing required role: `editor`"),
            (Requirement::role("editor").in_project("78"), "missing required role: `editor`"),
            (Requirement::all_roles(["admin", "boss"]), "missing required role: `boss`"),
            (Requirement::any_role(["boss"]), "missing required role: `boss`"),
            (Requirement::any_role(["boss", "chief"]), "missing required role: `boss` or `chief`"),
            (Requirement::scope("tasks"), "missing required scope: `tasks`"),
            (Requirement::organization("2"), "missing required organization"),
            (Requirement::role("admin").and(Requirement::scope("x")), "missing required scope: `x`"),
        ] {
            assert_eq!(missing(&unmet).as_deref(), Some(text), "{unmet:?}");
        }
    }

    #[test]
    fn narrowing_without_a_role_never_lets_everybody_in() {
        assert_eq!(missing(&Requirement::any_caller().in_organization("1")), None);
        for unmet in [
            Requirement::any_caller().in_organization("2"),
            Requirement::scope("openid").in_organization("2"),
            Requirement::any_caller().in_project("77"),
            Requirement::scope("openid").in_project("77"),
            Requirement::all_roles(Vec::<Role>::new()),
        ] {
            assert!(missing(&unmet).is_some(), "{unmet:?}");
        }
    }

    #[test]
    fn the_strictest_age_counts() {
        let within = |seconds| Requirement::any_caller().fresh_within(Duration::from_secs(seconds));
        let none = Requirement::any_caller();
        for (requirement, seconds) in [
            (none.clone(), None),
            (none.clone().and(none.clone()), None),
            (within(5), Some(5)),
            (within(5).fresh_within(Duration::from_secs(9)), Some(5)),
            (within(9).and(within(5)), Some(5)),
            (within(5).or(within(9)), Some(5)),
            (none.clone().or(within(7)), Some(7)),
            (within(7).and(none), Some(7)),
        ] {
            assert_eq!(requirement.ages().least(), seconds.map(Duration::from_secs), "{requirement:?}");
        }
    }

    #[test]
    fn one_alternative_is_named_as_if_it_stood_alone() {
        let reason = Requirement::any_role(["boss"]).check(&claims()).unwrap_err();
        assert!(matches!(reason, Reason::MissingRole { .. }), "{reason:?}");
    }

    #[test]
    fn no_alternatives_let_nobody_in() {
        assert!(missing(&Requirement::any_role(Vec::<Role>::new())).is_some());
    }

    /// The grants of a claim: role, organization.
    type Grants = Vec<(u8, u8)>;

    /// What a requirement asks, in a form that is checked without any cleverness.
    #[derive(Debug, Clone)]
    enum Wish {
        Role(u8, Option<u8>, bool),
        Scope(u8),
        Organization(u8),
        Any(Vec<Wish>),
        All(Vec<Wish>),
    }

    const ROLES: [&str; 4] = ["admin", "Admin", "admi", "viewer"];
    const SCOPES: [&str; 3] = ["tasks", "tasks:read", "read"];

    impl Wish {
        fn requirement(&self) -> Requirement {
            match self {
                Self::Role(role, organization, is_elsewhere) => {
                    let mut requirement = Requirement::role(ROLES[usize::from(*role)]);
                    if let Some(id) = organization {
                        requirement = requirement.in_organization(id.to_string());
                    }
                    if *is_elsewhere { requirement.in_project("77") } else { requirement }
                }
                Self::Scope(scope) => Requirement::scope(SCOPES[usize::from(*scope)]),
                Self::Organization(id) => Requirement::organization(id.to_string()),
                Self::Any(wishes) => {
                    let all = wishes.iter().map(Self::requirement);
                    all.reduce(Requirement::or).unwrap_or(Requirement::any_role(Vec::<Role>::new()))
                }
                Self::All(wishes) => {
                    let all = wishes.iter().map(Self::requirement);
                    all.reduce(Requirement::and).unwrap_or(Requirement::any_caller())
                }
            }
        }

        fn is_met(&self, own: &Grants, elsewhere: &Grants, scopes: &[u8], home: Option<u8>) -> bool {
            match self {
                Self::Role(role, organization, is_elsewhere) => {
                    let grants = if *is_elsewhere { elsewhere } else { own };
                    let is_it = |(granted, from): &(u8, u8)| {
                        granted == role && organization.is_none_or(|organization| organization == *from)
                    };
                    grants.iter().any(is_it)
                }
                Self::Scope(scope) => scopes.contains(scope),
                Self::Organization(id) => home == Some(*id),
                Self::Any(wishes) => wishes.iter().any(|wish| wish.is_met(own, elsewhere, scopes, home)),
                Self::All(wishes) => wishes.iter().all(|wish| wish.is_met(own, elsewhere, scopes, home)),
            }
        }
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        let leaf = prop_oneof![
            (0..4_u8, prop::option::of(0..3_u8), any::<bool>())
                .prop_map(|(role, organization, is_elsewhere)| Wish::Role(role, organization, is_elsewhere)),
            (0..3_u8).prop_map(Wish::Scope),
            (0..3_u8).prop_map(Wish::Organization),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Wish::Any),
                proptest::collection::vec(inner, 0..3).prop_map(Wish::All),
            ]
        })
    }

    fn claim(grants: &Grants) -> serde_json::Value {
        let mut claim = json!({});
        for (role, organization) in grants {
            claim[ROLES[usize::from(*role)]][organization.to_string()] = json!("x.example");
        }
        claim
    }

    fn grants() -> impl Strategy<Value = Grants> {
        proptest::collection::vec((0..4_u8, 0..3_u8), 0..5)
    }

    proptest! {
        #[test]
        fn a_check_says_what_the_naive_reading_says(
            wish in wishes(), own in grants(), elsewhere in grants(),
            scopes in proptest::collection::vec(0..3_u8, 0..3), home in prop::option::of(0..3_u8),
        ) {
            let mut document = json!({
                "active": true,
                "scope": scopes.iter().map(|scope| SCOPES[usize::from(*scope)]).collect::<Vec<_>>().join(" "),
                "urn:zitadel:iam:org:project:roles": claim(&own),
                "urn:zitadel:iam:org:project:77:roles": claim(&elsewhere),
            });
            if let Some(id) = home {
                document["urn:zitadel:iam:user:resourceowner:id"] = json!(id.to_string());
            }
            let claims = Claims::from_introspection(document.to_string(), None).unwrap().unwrap();
            let requirement = wish.requirement();
            let expected = wish.is_met(&own, &elsewhere, &scopes, home);
            prop_assert_eq!(requirement.is_met(&claims), expected);
            prop_assert_eq!(requirement.check(&claims).is_ok(), expected);
        }
    }
}
