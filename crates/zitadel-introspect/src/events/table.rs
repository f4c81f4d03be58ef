//! Which verdicts each event ends. The page `docs/caching-and-revocation.md` shows the same table.

use crate::{
    events::event::Event,
    names::{OrganizationId, ProjectId},
    verdict::evict::Evict,
};

/// The effect of an event on held verdicts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// These end at once.
    pub(crate) ends: Vec<Evict>,
    /// These are renewed, and answer a few seconds longer: their claims have changed, and nothing was taken away.
    pub(crate) changes: Vec<Evict>,
    /// Tokens of an unknown user whom these evictions may concern.
    pub(crate) needs: Option<LookUp>,
    /// ZITADEL's own answers may lag behind the event: evict again later.
    pub(crate) echoes: bool,
    /// Nothing was taken away: what was issued before is still true.
    pub(crate) only_widens: bool,
    /// The type of the event is not known here.
    pub(crate) is_unknown: bool,
}

/// A fact that the event does not carry and that a look-up finds. Without it, `or` is evicted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LookUp {
    pub(crate) what: Whose,
    pub(crate) or: Evict,
}

/// Whose user is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// By the session's id.
    Session(String),
    /// By the grant's id.
    Grant(String),
}

/// All types that end or narrow verdicts, in two searches: ZITADEL takes 30 types at once. `instance.member.added` is in
/// each, so that there always is an event.
pub(crate) const OF_USERS: [&str; 19] = [
    ANCHOR,
    "user.pat.removed",
    "user.token.removed",
    "user.human.refresh.token.removed",
    "user.signed.out",
    "user.human.signed.out",
    "user.locked",
    "user.deactivated",
    "user.removed",
    "oidc_session.access_token.revoked",
    "oidc_session.refresh_token.revoked",
    "oidc_session.access_token.added",
    "session.terminated",
    "user.grant.changed",
    "user.grant.removed",
    "user.grant.deactivated",
    "user.grant.cascade.changed",
    "user.grant.cascade.removed",
    "user.grant.added",
];

pub(crate) const OF_PROJECTS: [&str; 21] = [
    ANCHOR,
    "user.grant.reactivated",
    "project.role.removed",
    "project.grant.changed",
    "project.grant.cascade.changed",
    "project.grant.removed",
    "project.grant.deactivated",
    "project.deactivated",
    "project.removed",
    "project.application.deactivated",
    "project.application.removed",
    "project.application.oidc.key.removed",
    "org.deactivated",
    REMOVED_ORGANIZATION,
    REMOVED_KEY,
    "instance.domain.removed",
    "instance.domain.primary.set",
    "instance.removed",
    "group.users.added",
    "group.users.removed",
    "group.removed",
];

/// Types of these that no webhook needs: there are too many of them, or they only come with another one.
const NOT_BY_WEBHOOK: [&str; 9] = [
    ANCHOR,
    "oidc_session.access_token.added",
    "project.grant.cascade.changed",
    "instance.domain.removed",
    "instance.domain.primary.set",
    "instance.removed",
    "group.users.added",
    "group.users.removed",
    "group.removed",
];

/// The types for which a webhook is worth its call.
pub(crate) fn for_webhooks() -> impl Iterator<Item = &'static str> {
    let all = OF_USERS.into_iter().chain(OF_PROJECTS);
    all.filter(|kind| !NOT_BY_WEBHOOK.contains(kind))
}

/// The types that change claims and take nothing away.
pub(crate) const OF_CLAIMS: [&str; 29] = [
    ANCHOR,
    "user.username.changed",
    "user.domain.claimed",
    "user.profile.changed",
    "user.human.profile.changed",
    "user.email.changed",
    "user.email.verified",
    "user.human.email.changed",
    "user.human.email.verified",
    "user.phone.changed",
    "user.phone.removed",
    "user.phone.verified",
    "user.human.phone.changed",
    "user.human.phone.removed",
    "user.human.phone.verified",
    "user.human.avatar.added",
    "user.human.avatar.removed",
    "user.machine.changed",
    "user.metadata.set",
    "user.metadata.removed",
    "user.metadata.removed.all",
    "org.changed",
    "org.domain.primary.set",
    "org.domain.verified",
    "org.domain.removed",
    "org.policy.domain.added",
    "org.policy.domain.changed",
    "org.policy.domain.removed",
    "group.changed",
];

/// The aggregates of all these types. They are always named: one type that this ZITADEL does not know would make the
/// search fail without them.
pub(crate) const AGGREGATES: [&str; 9] =
    ["user", "oidc_session", "session", "usergrant", "project", "org", "web_key", "instance", "group"];

pub(crate) const ANCHOR: &str = "instance.member.added";
const REMOVED_ORGANIZATION: &str = "org.removed";
pub(crate) const REMOVED_KEY: &str = "web_key.removed";

/// The `reason` of a new token that replaces another one.
const REFRESH: &str = "refresh";

/// Types that end, narrow or change no verdict, by their beginnings. A webhook may bring them; the feed does not ask for
/// them.
const HARMLESS: &[&str] = &[
    "user.unlocked",
    "user.reactivated",
    "user.added",
    "user.human.added",
    "user.human.selfregistered",
    "user.machine.added",
    "user.machine.key.",
    "user.machine.secret.",
    "user.token.added",
    "user.pat.added",
    "user.human.refresh.token.added",
    "user.human.refresh.token.renewed",
    "user.impersonated",
    "user.password.",
    "user.human.password.",
    "user.human.passwordless.",
    "user.mfa.",
    "user.human.mfa.",
    "user.externalidp.",
    "user.human.externalidp.",
    "user.externallogin.",
    "user.human.externallogin.",
    "user.initialization.",
    "user.human.initialization.",
    "user.human.invite.",
    "user.email.code.",
    "user.email.verification.failed",
    "user.human.email.code.",
    "user.human.email.verification.failed",
    "user.phone.code.",
    "user.phone.verification.failed",
    "user.human.phone.code.",
    "user.human.phone.verification.failed",
    "user.address.changed",
    "user.human.address.changed",
    "user.domain.claimed.sent",
    "oidc_session.added",
    "oidc_session.refresh_token.added",
    "oidc_session.refresh_token.renewed",
    "session.added",
    "session.intent.checked",
    "session.lifetime.set",
    "session.metadata.set",
    "session.otp.",
    "session.password.checked",
    "session.recoveryCode.checked",
    "session.token.set",
    "session.totp.checked",
    "session.user.checked",
    "session.webAuthN.",
    "session_logout.",
    "project.added",
    "project.changed",
    "project.reactivated",
    "project.member.",
    "project.role.added",
    "project.role.changed",
    "project.grant.added",
    "project.grant.reactivated",
    "project.grant.member.",
    "project.application.added",
    "project.application.changed",
    "project.application.reactivated",
    "project.application.config.",
    "project.application.oidc.key.added",
    "org.added",
    "org.reactivated",
    "org.member.",
    "org.domain.added",
    "org.domain.verification.",
    "org.idp.",
    "org.customtext.",
    "org.mail.",
    "instance.member.",
    "instance.idp.",
    "instance.customtext.",
    "instance.mail.",
    "instance.sms.",
    "instance.smtp.",
    "saml_request.",
    "saml_session.",
    "device.",
    "idpintent.",
    "milestone.",
    "debug.",
    "feature.",
    "group.added",
    "iam.",
    "instance.added",
    "instance.changed",
    "instance.default.",
    "instance.domain.added",
    "instance.hosted_login_translation.",
    "instance.iam.",
    "instance.notification.",
    "instance.oidc.settings.",
    "instance.policy.",
    "instance.secret.generator.",
    "instance.trusted_domains.",
    "key_pair.",
    "limits.",
    "org.hosted_login_translation.",
    "org.policy.",
    "permission.",
    "quota.",
    "restrictions.",
    "schemauser.",
    "settings.",
    "system.",
    "user.selfregistered",
    "user_schema.",
    "web_key.",
    "auth_request.",
];

/// What is ours; `None`: it is not known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ours<'a> {
    pub(crate) project: Option<&'a ProjectId>,
    /// The organization of the project.
    pub(crate) organization: Option<&'a OrganizationId>,
}

impl<'a> From<Option<&'a ProjectId>> for Ours<'a> {
    fn from(project: Option<&'a ProjectId>) -> Self {
        Self { project, organization: None }
    }
}

/// The effect of an event on the verdicts of our API.
pub(crate) fn effect<'a>(event: &Event, ours: impl Into<Ours<'a>>) -> Effect {
    let Ours { project: ours, organization } = ours.into();
    let is_ours = event.id.is_empty() || ours.is_none_or(|ours| *ours == *event.id);
    let all = || ends(Evict::All);
    match event.kind.as_str() {
        "user.pat.removed" | "user.token.removed" => match &event.payload.token {
            Some(token) => ends(Evict::TokenId(token.into())),
            None => ends(user_or_all(event)),
        },
        "user.human.refresh.token.removed" | "user.signed.out" | "user.human.signed.out" => {
            ends(user_or_all(event))
        }
        "user.locked" | "user.deactivated" | "user.removed" => ends(user_or_all(event)).echoed(),
        "oidc_session.access_token.revoked" | "oidc_session.refresh_token.revoked" => {
            ends(session_or_all(event))
        }
        "oidc_session.access_token.added" => refreshed(event),
        "session.terminated" if event.id.is_empty() => ends(Evict::OidcSessions),
        "session.terminated" => needs(Whose::Session(event.id.clone()), Evict::OidcSessions),
        "user.grant.added" | "user.grant.reactivated" => Effect { only_widens: true, ..grant(event, ours) },
        kind if kind.starts_with("user.grant.") => grant(event, ours),
        "project.role.removed" => role_removed(event, ours),
        "project.grant.changed"
        | "project.grant.cascade.changed"
        | "project.grant.removed"
        | "project.grant.deactivated" => any_role(event, ours).echoed(),
        "project.deactivated" | "project.removed" if is_ours => all().echoed(),
        "project.application.oidc.key.removed" if is_ours => all(),
        "project.deactivated" | "project.removed" | "project.application.oidc.key.removed" => {
            Effect::default()
        }
        "project.application.deactivated" | "project.application.removed" => {
            ends(if is_ours { Evict::All } else { Evict::FirstLogin })
        }
        // Users of a deactivated organization keep their tokens; its projects do not work any more.
        "org.deactivated" if organization.is_some_and(|ours| !event.id.is_empty() && *ours != *event.id) => {
            Effect::default()
        }
        "org.deactivated"
        | "instance.domain.removed"
        | "instance.domain.primary.set"
        | "instance.removed" => all(),
        REMOVED_ORGANIZATION if event.id.is_empty() => all(),
        REMOVED_ORGANIZATION => {
            let id = event.id.as_str();
            let known = ends(Evict::UsersOf(id.into())).and(Evict::RolesFrom(id.into())).echoed();
            // Verdicts whose organization is not known: softly, since anybody who registers can remove an organization.
            Effect { changes: vec![Evict::Organization(id.into())], ..known }
        }
        REMOVED_KEY => ends(Evict::Jwts),
        "group.users.added" | "group.users.removed" => match &event.payload.users {
            Some(users) => {
                let ends = users.iter().map(|user| Evict::User(user.into())).collect();
                Effect { ends, echoes: true, ..Effect::default() }
            }
            None => all(),
        },
        "group.removed" | "group.changed" => ends(Evict::Groups).echoed(),
        // Actions compute claims; names of users follow the policies of domains.
        kind if of_actions(kind) || kind.starts_with("instance.policy.domain.") => changes(Evict::All),
        kind if of_organizations(kind) => changes(if event.id.is_empty() {
            Evict::All
        } else {
            Evict::Organization(event.id.as_str().into())
        }),
        kind if OF_CLAIMS.contains(&kind) && kind != ANCHOR => changes(user_or_all(event)),
        kind if kind == ANCHOR || HARMLESS.iter().any(|harmless| kind.starts_with(harmless)) => {
            Effect::default()
        }
        _ => Effect { is_unknown: true, ..unknown(event, ours) },
    }
}

fn of_actions(kind: &str) -> bool {
    ["action.", "org.flow.", "execution.", "target."].iter().any(|prefix| kind.starts_with(prefix))
}

/// Whether an event changes the claims of all users of an organization.
fn of_organizations(kind: &str) -> bool {
    matches!(kind, "org.changed" | "org.domain.primary.set" | "org.domain.verified" | "org.domain.removed")
        || kind.starts_with("org.policy.domain.")
        || kind.starts_with("org.metadata.")
}

/// A type that is not known here: what its aggregate says.
fn unknown(event: &Event, ours: Option<&ProjectId>) -> Effect {
    match event.aggregate.as_str() {
        "user" => ends(user_or_all(event)).echoed(),
        "oidc_session" => ends(session_or_all(event)).echoed(),
        "session" => ends(Evict::OidcSessions).echoed(),
        "usergrant" => ends(roles_from_or_all(event)).echoed(),
        "project" => any_role(event, ours).echoed(),
        _ => ends(Evict::All).echoed(),
    }
}

/// A new access token of an OIDC session ends the one before, if it came by a refresh.
fn refreshed(event: &Event) -> Effect {
    if event.payload.reason.as_deref().is_some_and(|reason| reason != REFRESH) {
        return Effect::default();
    }
    match &event.payload.id {
        Some(newest) if !event.id.is_empty() => {
            ends(Evict::Predecessors(format!("{}-{newest}", event.id).into()))
        }
        _ => ends(session_or_all(event)),
    }
}

fn grant(event: &Event, ours: Option<&ProjectId>) -> Effect {
    if let (Some(ours), Some(project)) = (ours, &event.payload.project)
        && *ours != **project
    {
        return Effect::default();
    }
    let effect = match &event.payload.user {
        Some(user) => ends(Evict::User(user.into())),
        None if event.id.is_empty() => ends(roles_from_or_all(event)),
        None => needs(Whose::Grant(event.id.clone()), roles_from_or_all(event)),
    };
    effect.echoed()
}

fn role_removed(event: &Event, ours: Option<&ProjectId>) -> Effect {
    let Some(role) = &event.payload.role else { return any_role(event, ours).echoed() };
    if event.id.is_empty() {
        return ends(Evict::All);
    }
    match ours {
        Some(ours) if *ours != *event.id => Effect::default(),
        _ => ends(Evict::Role(event.id.as_str().into(), role.into())).echoed(),
    }
}

fn any_role(event: &Event, ours: Option<&ProjectId>) -> Effect {
    match ours {
        _ if event.id.is_empty() => ends(Evict::All),
        Some(ours) if *ours != *event.id => Effect::default(),
        _ => ends(Evict::AnyRole(event.id.as_str().into())),
    }
}

fn user_or_all(event: &Event) -> Evict {
    if event.id.is_empty() { Evict::All } else { Evict::User(event.id.as_str().into()) }
}

fn session_or_all(event: &Event) -> Evict {
    if event.id.is_empty() { Evict::OidcSessions } else { Evict::TokenId(event.id.as_str().into()) }
}

fn roles_from_or_all(event: &Event) -> Evict {
    if event.owner.is_empty() { Evict::All } else { Evict::RolesFrom(event.owner.as_str().into()) }
}

fn ends(what: Evict) -> Effect {
    Effect { ends: vec![what], ..Effect::default() }
}

fn changes(what: Evict) -> Effect {
    Effect { changes: vec![what], echoes: true, ..Effect::default() }
}

fn needs(what: Whose, or: Evict) -> Effect {
    Effect { needs: Some(LookUp { what, or }), ..Effect::default() }
}

impl Effect {
    /// What JWTs must not be older than.
    pub(crate) fn remembered(&self, event: &Event) -> Vec<Evict> {
        let softly = if event.kind == REMOVED_ORGANIZATION { &self.changes[..] } else { &[] };
        if self.only_widens { Vec::new() } else { self.ends.iter().chain(softly).cloned().collect() }
    }

    fn and(mut self, what: Evict) -> Self {
        self.ends.push(what);
        self
    }

    fn echoed(self) -> Self {
        Self { echoes: !self.ends.is_empty() || self.needs.is_some(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::events::event::{Payload, read_found};

    /// What each recorded change of a running ZITADEL does to an API of `<project>`, change by change.
    #[test]
    fn each_recorded_change_ends_what_it_must() {
        let recorded: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/recordings/changes.json")).unwrap();
        let ours = ProjectId::from("<project>");
        let mut found = BTreeMap::new();
        for change in &recorded {
            let events = change["events"].as_array().unwrap().iter();
            let effects = events.map(|event| effect(&read_found(event).unwrap().1, Some(&ours)));
            let text = effects.filter(|effect| *effect != Effect::default()).map(|effect| told(&effect));
            found.insert(change["change"].as_str().unwrap(), text.collect::<Vec<_>>().join("; "));
        }
        let expected: BTreeMap<&str, &str> = EXPECTED.into_iter().collect();
        for (change, told) in &found {
            assert_eq!(*told, *expected.get(change).unwrap_or(&""), "{change}");
        }
        assert!(expected.keys().all(|change| found.contains_key(change)));
    }

    #[test]
    fn a_deactivated_organization_ends_all_only_if_it_may_be_ours() {
        let project = ProjectId::from("7");
        let event =
            |id: &str| Event { kind: "org.deactivated".to_owned(), id: id.to_owned(), ..Event::default() };
        let ours = OrganizationId::from("1");
        for (organization, id, is_ended) in
            [(None, "2", true), (Some(&ours), "2", false), (Some(&ours), "1", true), (Some(&ours), "", true)]
        {
            let effect = effect(&event(id), Ours { project: Some(&project), organization });
            assert_eq!(effect.ends == [Evict::All], is_ended, "{organization:?} {id}");
        }
    }

    fn told(effect: &Effect) -> String {
        let mut told: Vec<String> = effect.ends.iter().map(|what| format!("{what:?}")).collect();
        told.extend(effect.changes.iter().map(|what| format!("softly {what:?}")));
        told.extend(effect.needs.iter().map(|needed| format!("{:?} or {:?}", needed.what, needed.or)));
        for (is_so, word) in
            [(effect.echoes, "again"), (effect.only_widens, "widens"), (effect.is_unknown, "unknown")]
        {
            if is_so {
                told.push(word.to_owned());
            }
        }
        told.join(", ").replace(['"', '<', '>'], "")
    }

    const EXPECTED: [(&str, &str); 68] = [
        ("app-deactivated", "All"),
        ("app-key-removed", "All"),
        ("app-key-removed-v1", "All"),
        ("app-removed", "All"),
        ("app-removed-v1", "All"),
        ("end-session", "Session(fifth web session id) or OidcSessions"),
        ("grant-added", "User(UserId(robot id)), again, widens"),
        ("grant-added-v1", "User(UserId(robot id)), again, widens"),
        ("grant-changed", "Grant(grant id) or RolesFrom(OrganizationId(org)), again"),
        ("grant-changed-v1", "User(UserId(robot id)), again"),
        ("grant-deactivated", "Grant(grant id) or RolesFrom(OrganizationId(org)), again"),
        ("grant-deactivated-v1", "Grant(grant id v1) or RolesFrom(OrganizationId(org)), again"),
        ("grant-reactivated", "Grant(grant id) or RolesFrom(OrganizationId(org)), again, widens"),
        ("grant-reactivated-v1", "Grant(grant id v1) or RolesFrom(OrganizationId(org)), again, widens"),
        ("grant-removed", "User(UserId(robot id)), again"),
        ("grant-removed-v1", "User(UserId(robot id)), again"),
        ("granted-user-grant", "User(UserId(guest id)), again, widens"),
        ("machine-name", "softly User(UserId(robot id)), again"),
        ("machine-name-v2", "softly User(UserId(robot id)), again"),
        ("metadata-changed", "softly User(UserId(robot id)), again"),
        ("metadata-removed", "softly User(UserId(robot id)), again"),
        ("metadata-removed-v1", "softly User(UserId(robot id)), again"),
        ("metadata-set", "softly User(UserId(robot id)), again; softly User(UserId(robot id)), again"),
        ("metadata-set-v1", "softly User(UserId(robot id)), again"),
        (
            "org-created",
            "softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again",
        ),
        ("org-deactivated", "All"),
        ("org-domain-added", "softly Organization(OrganizationId(second org)), again"),
        ("org-domain-primary", "softly Organization(OrganizationId(second org)), again"),
        (
            "org-name",
            "softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again",
        ),
        (
            "org-name-v2",
            "softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again; softly Organization(OrganizationId(second org)), again",
        ),
        (
            "org-removed",
            "UsersOf(OrganizationId(second org)), RolesFrom(OrganizationId(second org)), softly Organization(OrganizationId(second org)), again",
        ),
        ("pat-removed", "TokenId(TokenId(robot pat 1 id))"),
        ("pat-removed-v1", "TokenId(TokenId(robot pat 2 id))"),
        ("person-created", "softly User(UserId(ada id)), again; softly User(UserId(ada id)), again"),
        ("person-deactivated", "User(UserId(ada id)), again"),
        ("person-email", "softly User(UserId(ada id)), again; softly User(UserId(ada id)), again"),
        ("person-email-unverified", "softly User(UserId(ada id)), again"),
        ("person-locked", "User(UserId(ada id)), again"),
        ("person-phone", "softly User(UserId(ada id)), again; softly User(UserId(ada id)), again"),
        ("person-profile", "softly User(UserId(ada id)), again"),
        ("person-profile-v1", "softly User(UserId(ada id)), again"),
        (
            "person-removed",
            "User(UserId(ada id)), again; Grant(grant with the role alone) or RolesFrom(OrganizationId(org)), again",
        ),
        ("person-username", "softly User(UserId(ada id)), again"),
        ("project-deactivated", "All, again"),
        ("project-grant-changed", "AnyRole(ProjectId(project)), again"),
        (
            "project-grant-changed-v1",
            "AnyRole(ProjectId(project)), again; Grant(granted grant id) or RolesFrom(OrganizationId(second org)), again",
        ),
        ("project-grant-deactivated", "AnyRole(ProjectId(project)), again"),
        (
            "project-grant-removed",
            "AnyRole(ProjectId(project)), again; Grant(granted grant id) or RolesFrom(OrganizationId(second org)), again",
        ),
        ("project-removed", "Grant(grant in other project) or RolesFrom(OrganizationId(org)), again"),
        ("project-removed-v1", "Grant(grant in third project) or RolesFrom(OrganizationId(org)), again"),
        ("refresh", "Predecessors(TokenId(V2_id 3-at_id 6))"),
        ("revoke-jwt", "TokenId(TokenId(V2_id 11))"),
        ("revoke-opaque", "TokenId(TokenId(V2_id 3))"),
        ("revoke-opaque-again", "TokenId(TokenId(V2_id 3))"),
        ("revoke-refresh", "TokenId(TokenId(V2_id 8))"),
        (
            "role-removed",
            "Role(ProjectId(project), Role(admin)), again; Grant(grant with two roles) or RolesFrom(OrganizationId(org)), again; Grant(grant with the role alone) or RolesFrom(OrganizationId(org)), again",
        ),
        (
            "role-removed-granted",
            "Role(ProjectId(project), Role(extra)), again; AnyRole(ProjectId(project)), again",
        ),
        ("role-removed-v1", "Role(ProjectId(project), Role(extra)), again"),
        ("session-deleted", "Session(third web session id) or OidcSessions"),
        ("session-deleted-admin", "Session(fourth web session id) or OidcSessions"),
        ("user-deactivated", "User(UserId(robot id)), again"),
        ("user-deactivated-v1", "User(UserId(robot id)), again"),
        ("user-locked", "User(UserId(robot id)), again"),
        ("user-locked-v1", "User(UserId(robot id)), again"),
        (
            "user-removed",
            "User(UserId(spare id)), again; Grant(spare grant) or RolesFrom(OrganizationId(org)), again",
        ),
        (
            "user-removed-v1",
            "User(UserId(spare2 id)), again; Grant(spare2 grant) or RolesFrom(OrganizationId(org)), again",
        ),
        ("username-v1", "softly User(UserId(robot id)), again"),
        ("username-v2", "softly User(UserId(robot id)), again"),
    ];

    fn event(kind: &str, aggregate: &str, id: &str) -> Event {
        Event { kind: kind.into(), aggregate: aggregate.into(), id: id.into(), ..Event::default() }
    }

    #[test]
    fn what_is_missing_widens_what_ends() {
        let ours = ProjectId::from("7");
        let ends = |event: &Event| effect(event, Some(&ours)).ends;
        for (kind, aggregate) in [
            ("user.pat.removed", "user"),
            ("user.locked", "user"),
            ("user.grant.removed", "usergrant"),
            ("project.role.removed", "project"),
            ("project.grant.changed", "project"),
            ("project.removed", "project"),
            ("org.removed", "org"),
        ] {
            assert_eq!(ends(&event(kind, aggregate, "")), [Evict::All], "{kind}");
        }
        assert_eq!(ends(&event("user.pat.removed", "user", "1")), [Evict::User("1".into())]);
        assert_eq!(
            ends(&event("oidc_session.access_token.revoked", "oidc_session", "")),
            [Evict::OidcSessions]
        );
        assert_eq!(ends(&event("session.terminated", "session", "")), [Evict::OidcSessions]);
        assert_eq!(ends(&event("project.role.removed", "project", "7")), [Evict::AnyRole("7".into())]);
        let refresh = event("oidc_session.access_token.added", "oidc_session", "V2_1");
        assert_eq!(ends(&refresh), [Evict::TokenId("V2_1".into())], "neither reason nor id");
    }

    #[test]
    fn events_of_other_projects_end_nothing_and_an_unknown_project_may_be_ours() {
        let ours = ProjectId::from("7");
        let of_grant = |project: &str| {
            let payload = Payload::read(Some(&json!({"userId": "1", "projectId": project, "key": "admin"})));
            Event { payload, ..event("user.grant.removed", "usergrant", "5") }
        };
        assert_eq!(effect(&of_grant("8"), Some(&ours)), Effect::default());
        assert_eq!(effect(&of_grant("7"), Some(&ours)).ends, [Evict::User("1".into())]);
        for kind in [
            "project.role.removed",
            "project.grant.changed",
            "project.deactivated",
            "project.removed",
            "project.application.oidc.key.removed",
        ] {
            assert_eq!(effect(&event(kind, "project", "8"), Some(&ours)), Effect::default(), "{kind}");
            assert_ne!(effect(&event(kind, "project", "8"), None), Effect::default(), "{kind}");
            assert_ne!(effect(&event(kind, "project", "7"), Some(&ours)), Effect::default(), "{kind}");
        }
        let foreign = event("project.application.removed", "project", "8");
        assert_eq!(effect(&foreign, Some(&ours)).ends, [Evict::FirstLogin]);
        assert_eq!(effect(&foreign, None).ends, [Evict::All]);
    }

    #[test]
    fn unknown_types_end_what_their_aggregate_says() {
        for (aggregate, ended) in [
            ("user", Evict::User("1".into())),
            ("oidc_session", Evict::TokenId("1".into())),
            ("session", Evict::OidcSessions),
            ("project", Evict::AnyRole("1".into())),
            ("usergrant", Evict::All),
            ("something", Evict::All),
            ("", Evict::All),
        ] {
            let effect = effect(&event(&format!("{aggregate}.of.tomorrow"), aggregate, "1"), None);
            assert!(effect.is_unknown && effect.echoes || aggregate == "session", "{aggregate}");
            if aggregate != "session" {
                assert_eq!(effect.ends, [ended], "{aggregate}");
            }
        }
    }

    /// All 556 types that a running ZITADEL listed.
    #[test]
    fn each_type_of_zitadel_is_known() {
        let types: Vec<_> = include_str!("../../tests/recordings/event-types.txt").lines().collect();
        assert_eq!(types.len(), 556);
        for kind in types {
            let aggregate = kind.split('.').next().unwrap();
            let known = effect(&event(kind, aggregate, "1"), None);
            assert!(!known.is_unknown, "{kind}");
        }
        for kind in ["action.changed", "execution.set", "org.flow.cleared", "instance.policy.domain.changed"]
        {
            assert_eq!(effect(&event(kind, "x", "1"), None).changes, [Evict::All], "{kind}");
        }
        for kind in ["org.metadata.set", "org.policy.domain.changed", "org.changed"] {
            assert_eq!(
                effect(&event(kind, "org", "1"), None).changes,
                [Evict::Organization("1".into())],
                "{kind}"
            );
        }
        assert_eq!(effect(&event("instance.domain.primary.set", "instance", "1"), None).ends, [Evict::All]);
    }

    #[test]
    fn the_searches_ask_for_no_more_than_zitadel_takes_and_for_nothing_that_does_nothing() {
        assert!(AGGREGATES.len() <= 10);
        for types in [&OF_USERS[..], &OF_PROJECTS, &OF_CLAIMS] {
            assert!(types.len() <= 30 && types[0] == ANCHOR);
            for kind in &types[1..] {
                let aggregate = if kind.starts_with("user.grant.") {
                    "usergrant"
                } else {
                    kind.split('.').next().unwrap()
                };
                assert!(AGGREGATES.contains(&aggregate), "{kind}");
                let does = effect(&event(kind, aggregate, "1"), None);
                assert!(does != Effect::default() && !does.is_unknown, "{kind}");
            }
        }
    }
}
