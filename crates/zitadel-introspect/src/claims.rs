//! The claims of a token: subject, audience, expiry and roles (RFC 7519 section 4, RFC 7662 section 2.2).

mod members;
pub(crate) mod pool;
mod roles;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub(crate) use self::members::{Broken, Members};
pub use self::roles::RoleGrants;
use self::{
    members::{Flag, OneOrMany},
    roles::{ROLES, project_of},
};
use crate::{
    clock::Now,
    error::InvalidToken,
    issuer::name::Issuer,
    names::{OrganizationId, ProjectId, UserId},
};

const METADATA: &str = "urn:zitadel:iam:user:metadata";

/// How far `nbf` may lie ahead, in seconds.
const NOT_BEFORE_LEEWAY: i64 = 60;

/// What the issuer says of an active token and its subject.
///
/// Typed where ZITADEL defines a claim; every other claim is reachable by [`Claims::get`] and
/// [`Claims::deserialize`]. A claim of an unexpected type reads as absent.
#[derive(Clone, PartialEq, Eq)]
#[repr(C)] // fields that are read at each request stand together, at the beginning
pub struct Claims {
    /// `exp` in Unix seconds; `i64::MAX` if the token has no `exp`.
    end: i64,
    roles: RoleGrants,
    /// Stored inline and not behind a pointer: handlers read it.
    subject: Option<UserId>,
    document: Box<str>,
    issuer: Option<String>,
    audience: Vec<String>,
    scope: Option<String>,
    not_before: Option<i64>,
    issued_at: Option<i64>,
    project_roles: Box<[(ProjectId, RoleGrants)]>,
    metadata: BTreeMap<String, Vec<u8>>,
    texts: Box<[(&'static str, Box<str>)]>,
    times: Box<[(&'static str, i64)]>,
    email_verified: bool,
    phone_number_verified: bool,
    methods: Vec<String>,
    groups: Vec<String>,
    /// `cnf` is present (RFC 7800): the caller must prove possession of a key as well.
    is_bound: bool,
    has_end: bool,
}

/// The claims that are plain text.
const TEXTS: [&str; 19] = [
    "client_id",
    "token_type",
    "jti",
    "username",
    "name",
    "given_name",
    "family_name",
    "nickname",
    "gender",
    "locale",
    "picture",
    "preferred_username",
    "email",
    "phone_number",
    "urn:zitadel:iam:user:resourceowner:id",
    "urn:zitadel:iam:user:resourceowner:name",
    "urn:zitadel:iam:user:resourceowner:primary_domain",
    "urn:zitadel:iam:org:id",
    "urn:zitadel:iam:org:domain:primary",
];

const TIMES: [&str; 2] = ["auth_time", "updated_at"];

impl Claims {
    /// Reads an introspection answer: the claims of an active token, or `None` if the issuer says inactive.
    ///
    /// Roles come from the generic claim, which ZITADEL fills with the asking API's own project, or from
    /// the claim of `project` where the configuration names one.
    pub(crate) fn from_introspection(
        document: String,
        project: Option<&ProjectId>,
    ) -> Result<Option<Self>, Broken> {
        let members = Members::read(&document).ok_or(Broken("the document"))?;
        let active = members.checked::<bool>("active")?.ok_or(Broken("active"))?;
        let mut claims = Self::read(&members)?;
        if let Some(project) = project {
            claims.roles = claims.project_roles(project).cloned().unwrap_or_default();
        }
        drop(members);
        claims.document = document.into_boxed_str();
        Ok(active.then_some(claims))
    }

    /// Reads the claims of a JWT whose signature is right. Its roles are those of one project: a JWT carries no
    /// generic role claim, and another project's roles are never ours.
    pub(crate) fn from_jwt(
        document: &str,
        members: &Members<'_>,
        project: &ProjectId,
    ) -> Result<Self, Broken> {
        let mut claims = Self::read(members)?;
        claims.roles = claims.project_roles(project).cloned().unwrap_or_default();
        // ZITADEL puts no `scope` into a JWT. If one is present, a ZITADEL action has set it, so it is ignored.
        claims.scope = None;
        claims.document = document.into();
        Ok(claims)
    }

    fn read(members: &Members<'_>) -> Result<Self, Broken> {
        let flag = |name| Ok(members.lenient::<Flag>(name)?.is_some_and(|flag| flag.is_true()));
        let list = |name| Ok(members.lenient::<Vec<String>>(name)?.unwrap_or_default());
        let mut texts = Vec::new();
        for name in TEXTS {
            texts.extend(members.lenient::<Box<str>>(name)?.map(|text| (name, text)));
        }
        let mut times = Vec::new();
        for name in TIMES {
            times.extend(members.lenient_date(name)?.map(|date| (name, date.floor())));
        }
        let roles = members.get(ROLES)?.map(RoleGrants::read).transpose()?.unwrap_or_default();
        Ok(Self {
            document: Box::default(),
            issuer: members.checked("iss")?,
            subject: members.checked("sub")?,
            audience: members.checked("aud")?.map(OneOrMany::into_vec).unwrap_or_default(),
            scope: members.checked("scope")?,
            end: members.checked_date("exp")?.map_or(i64::MAX, |date| date.floor()),
            not_before: members.checked_date("nbf")?.map(|date| date.ceil()),
            issued_at: members.checked_date("iat")?.map(|date| date.floor()),
            project_roles: project_roles(members, &roles)?,
            roles,
            metadata: members.get(METADATA)?.map(metadata).transpose()?.unwrap_or_default(),
            texts: texts.into(),
            times: times.into(),
            email_verified: flag("email_verified")?,
            phone_number_verified: flag("phone_number_verified")?,
            methods: list("amr")?,
            groups: list("groups")?,
            has_end: members.get("exp")?.is_some(),
            is_bound: members.get("cnf")?.is_some()
                || members.get("token_type")?.is_some_and(|kind| !kind.get().starts_with('"')),
        })
    }

    /// The JSON document that the claims were read from.
    pub(crate) fn document(&self) -> &str {
        &self.document
    }

    /// Our own checks in addition to the issuer's verdict: `iss`, the audience if one is configured, and that the token
    /// is a bearer token.
    pub(crate) fn check_origin(&self, issuer: &Issuer, audience: Option<&str>) -> Result<(), InvalidToken> {
        if self.issuer.as_deref().is_some_and(|found| !issuer.is_named_by(found)) {
            return Err(InvalidToken::OtherIssuer);
        }
        let is_bearer = self.token_type().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        if self.is_bound || !is_bearer {
            return Err(InvalidToken::NotABearerToken);
        }
        if audience.is_some_and(|expected| !self.audience.iter().any(|found| found == expected)) {
            return Err(InvalidToken::OtherAudience);
        }
        Ok(())
    }

    /// `exp` without leeway, `nbf` with 60 s; `now` in Unix seconds.
    pub(crate) fn check_times(&self, now: i64) -> Result<(), InvalidToken> {
        if self.end <= now {
            return Err(InvalidToken::Expired);
        }
        if self.not_before.is_some_and(|start| start > now.saturating_add(NOT_BEFORE_LEEWAY)) {
            return Err(InvalidToken::NotYetValid);
        }
        Ok(())
    }

    /// Whether `exp` has passed. `nbf` is only checked when the verdict is created, because once `nbf` has passed, it
    /// stays in the past.
    pub(crate) fn has_expired(&self, now: Now) -> bool {
        // The clock is read only if the token has an end.
        self.end != i64::MAX && self.end <= now.wall()
    }

    /// The time until the token expires; `None` if the token has no `exp`.
    pub(crate) fn time_left(&self, now: Now) -> Option<Duration> {
        let left = |end: i64| u64::try_from(end.saturating_sub(now.wall())).unwrap_or_default();
        self.has_end.then(|| Duration::from_secs(left(self.end)))
    }

    /// `exp` in Unix seconds; `i64::MAX` if the token has no `exp`.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Whether the user belongs to the organization or has a role that it granted. True as well if the user's
    /// organization is not known.
    pub(crate) fn may_be_of_organization(&self, id: &str) -> bool {
        self.organization_id().is_none_or(|own| own == id) || self.has_role_from(id)
    }

    /// Whether the user has a role that the organization granted.
    pub(crate) fn has_role_from(&self, id: &str) -> bool {
        self.roles.is_from(id) || self.project_roles.iter().any(|(_, roles)| roles.is_from(id))
    }

    /// All blocks of roles.
    fn grants_mut(&mut self) -> impl Iterator<Item = &mut RoleGrants> {
        [&mut self.roles].into_iter().chain(self.project_roles.iter_mut().map(|(_, grants)| grants))
    }

    /// Whether the user has a role on a project. The generic claim does not name its project, so its roles may be of any.
    pub(crate) fn may_have_role(&self, project: &ProjectId, role: &str) -> bool {
        self.roles.contains(role) || self.project_roles(project).is_some_and(|roles| roles.contains(role))
    }

    /// As [`may_have_role`](Self::may_have_role), for any role.
    pub(crate) fn may_have_any_role(&self, project: &ProjectId) -> bool {
        !self.roles.is_empty() || self.project_roles(project).is_some_and(|roles| !roles.is_empty())
    }

    /// The project of the role claims, if there is exactly one.
    pub(crate) fn only_project(&self) -> Option<&ProjectId> {
        match &*self.project_roles {
            [(project, _)] => Some(project),
            _ => None,
        }
    }

    /// Whether all members of the document have such names.
    pub(crate) fn has_only_members(&self, is_allowed: impl Fn(&str) -> bool) -> bool {
        Members::read(&self.document).is_some_and(|members| members.iter().all(|(name, _)| is_allowed(name)))
    }

    /// `iat`, in Unix seconds.
    pub(crate) fn issued_at_seconds(&self) -> Option<i64> {
        self.issued_at
    }

    /// The claims take at most this many times the bytes of their document. The worst case is metadata with short
    /// names.
    pub(crate) const LARGEST_GROWTH: usize = 16;

    /// The bytes that the claims take in memory, or a little more.
    pub(crate) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let list = |list: &Vec<String>| list.iter().map(|text| text.capacity() + 24).sum::<usize>();
        let entry = |(key, value): (&String, &Vec<u8>)| key.capacity() + value.capacity() + 80;
        size_of::<Self>()
            + self.document.len()
            + text(&self.issuer)
            + self.subject.as_ref().map_or(0, |id| id.as_str().len())
            + text(&self.scope)
            + list(&self.audience)
            + list(&self.methods)
            + list(&self.groups)
            + self.roles.size()
            + self.project_roles.iter().map(|(_, roles)| roles.size() + 48).sum::<usize>()
            + self.metadata.iter().map(entry).sum::<usize>()
            + self.texts.iter().map(|(_, text)| text.len() + 48).sum::<usize>()
            + self.times.len() * 24
    }

    /// `sub`: the user's id.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_ref().map(UserId::as_str)
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// `aud`: client ids and project ids. A service user's token lists project ids only.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// Whether the token carries a scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|found| found == scope)
    }

    /// `scope`, split at its spaces.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.iter().flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty())
    }

    /// `exp`. A personal access token may have none.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.has_end.then(|| system_time(self.end))
    }

    /// `nbf`.
    #[must_use]
    pub fn not_before(&self) -> Option<SystemTime> {
        self.not_before.map(system_time)
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.issued_at.map(system_time)
    }

    /// `auth_time`: when the person logged in.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        self.time("auth_time")
    }

    /// `updated_at`: when the profile changed last.
    #[must_use]
    pub fn updated_at(&self) -> Option<SystemTime> {
        self.time("updated_at")
    }

    /// `jti`: the token's id; for a personal access token the id shown in the Console.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.text("jti")
    }

    /// `client_id`: the client of the token. With client credentials, the user name of the service user; absent for a
    /// personal access token.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.text("client_id")
    }

    /// `token_type`: `Bearer`.
    #[must_use]
    pub fn token_type(&self) -> Option<&str> {
        self.text("token_type")
    }

    /// `username`: the login name.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.text("username")
    }

    /// `preferred_username`.
    #[must_use]
    pub fn preferred_username(&self) -> Option<&str> {
        self.text("preferred_username")
    }

    /// `name`: the display name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// `given_name`.
    #[must_use]
    pub fn given_name(&self) -> Option<&str> {
        self.text("given_name")
    }

    /// `family_name`.
    #[must_use]
    pub fn family_name(&self) -> Option<&str> {
        self.text("family_name")
    }

    /// `nickname`.
    #[must_use]
    pub fn nickname(&self) -> Option<&str> {
        self.text("nickname")
    }

    /// `gender`.
    #[must_use]
    pub fn gender(&self) -> Option<&str> {
        self.text("gender")
    }

    /// `locale`, a BCP 47 tag.
    #[must_use]
    pub fn locale(&self) -> Option<&str> {
        self.text("locale")
    }

    /// `picture`: an address.
    #[must_use]
    pub fn picture(&self) -> Option<&str> {
        self.text("picture")
    }

    /// `email`.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.text("email")
    }

    /// `email_verified`; absent is false.
    #[must_use]
    pub fn is_email_verified(&self) -> bool {
        self.email_verified
    }

    /// `phone_number`.
    #[must_use]
    pub fn phone_number(&self) -> Option<&str> {
        self.text("phone_number")
    }

    /// `phone_number_verified`; absent is false.
    #[must_use]
    pub fn is_phone_number_verified(&self) -> bool {
        self.phone_number_verified
    }

    /// `amr`: how the person logged in (RFC 8176).
    #[must_use]
    pub fn authentication_methods(&self) -> &[String] {
        &self.methods
    }

    /// `groups`: names of the user's groups, where the instance has the feature.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// `act`: who acts in the subject's place, after a token exchange (RFC 8693 section 4.1).
    #[must_use]
    pub fn actor(&self) -> Option<serde_json::Value> {
        self.get("act").filter(|actor| !actor.is_null())
    }

    /// `sub` of `act`: the user id of the impersonator. `None` also where `act` names nobody.
    #[must_use]
    pub fn actor_subject(&self) -> Option<String> {
        Some(self.actor()?.get("sub")?.as_str()?.to_owned())
    }

    /// The id of the user's own organization (scope `urn:zitadel:iam:user:resourceowner`).
    #[must_use]
    pub fn organization_id(&self) -> Option<&str> {
        self.text("urn:zitadel:iam:user:resourceowner:id")
    }

    /// The name of the user's own organization.
    #[must_use]
    pub fn organization_name(&self) -> Option<&str> {
        self.text("urn:zitadel:iam:user:resourceowner:name")
    }

    /// The primary domain of the user's own organization.
    #[must_use]
    pub fn organization_domain(&self) -> Option<&str> {
        self.text("urn:zitadel:iam:user:resourceowner:primary_domain")
    }

    /// The organization that the login was bound to (scope `urn:zitadel:iam:org:id:{id}`).
    #[must_use]
    pub fn requested_organization_id(&self) -> Option<&str> {
        self.text("urn:zitadel:iam:org:id")
    }

    /// The domain that the login was bound to (scope `urn:zitadel:iam:org:domain:primary:{domain}`).
    #[must_use]
    pub fn requested_organization_domain(&self) -> Option<&str> {
        self.text("urn:zitadel:iam:org:domain:primary")
    }

    /// Roles on our own project, with the organizations that granted them.
    #[must_use]
    pub fn roles(&self) -> &RoleGrants {
        &self.roles
    }

    /// Whether the caller has a role on our own project, from any organization.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    /// Whether one organization granted the caller a role on our own project.
    #[must_use]
    pub fn has_role_in(&self, role: &str, organization: &OrganizationId) -> bool {
        self.roles.contains_in(role, organization)
    }

    /// Roles on a project by its id; `None` if the token names no roles on this project.
    #[must_use]
    pub fn project_roles(&self, project: &ProjectId) -> Option<&RoleGrants> {
        let at = self.project_roles.binary_search_by(|(own, _)| own.cmp(project)).ok()?;
        Some(&self.project_roles[at].1)
    }

    /// The user's metadata, decoded; values are bytes. Entries that are not Base64 are left out.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.metadata
    }

    /// One metadata value as text, where it is UTF-8.
    #[must_use]
    pub fn metadata_text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Any claim as JSON. If a name comes twice, the last value; `None` beyond 127 levels of nesting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<serde_json::Value> {
        let members = Members::read(&self.document)?;
        let raw = members.iter().find_map(|(found, raw)| (found == name).then_some(raw))?;
        serde_json::from_str(raw.get()).ok()
    }

    /// All claims into a type of your own.
    ///
    /// # Errors
    ///
    /// The error of `serde_json` if the claims do not fit the type.
    pub fn deserialize<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.document)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find_map(|(own, text)| (*own == name).then_some(&**text))
    }

    fn time(&self, name: &str) -> Option<SystemTime> {
        self.times.iter().find_map(|(own, seconds)| (*own == name).then(|| system_time(*seconds)))
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Claims")
            .field("subject", &self.subject)
            .field("scope", &self.scope)
            .field("expires_at", &self.expires_at())
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// The role claim of each project. A claim with the same roles as the generic claim shares the block of the generic
/// claim.
fn project_roles(
    members: &Members<'_>,
    generic: &RoleGrants,
) -> Result<Box<[(ProjectId, RoleGrants)]>, Broken> {
    let mut all = Vec::new();
    for (name, raw) in members.iter() {
        let Some(project) = project_of(name) else { continue };
        if members.repeats(name) {
            return Err(Broken(ROLES));
        }
        let grants = RoleGrants::read(raw)?;
        if !grants.is_empty() {
            all.push((project, if grants == *generic { generic.clone() } else { grants }));
        }
    }
    all.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    Ok(all.into())
}

fn metadata(raw: &RawValue) -> Result<BTreeMap<String, Vec<u8>>, Broken> {
    let entries = Members::read_unique(raw, METADATA)?;
    let decode = |(key, value): (&str, &RawValue)| {
        let text: String = serde_json::from_str(value.get()).ok()?;
        Some((key.to_owned(), decode_base64(&text)?))
    };
    Ok(entries.iter().flat_map(Members::iter).filter_map(decode).collect())
}

/// ZITADEL writes the URL alphabet without padding; the standard alphabet and padding are accepted as well.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok();
    decode(&alphabet::URL_SAFE).or_else(|| decode(&alphabet::STANDARD))
}

/// A time that is too late for the platform becomes the year 9999, which always fits.
fn system_time(seconds: i64) -> SystemTime {
    const YEAR_9999: u64 = 253_402_300_799;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        return UNIX_EPOCH.checked_sub(distance).unwrap_or(UNIX_EPOCH);
    }
    UNIX_EPOCH.checked_add(distance).unwrap_or(UNIX_EPOCH + Duration::from_secs(YEAR_9999))
}

#[cfg(test)]
mod tests;
