//! ZITADEL's own APIs, as far as a set-up needs them: Connect JSON, and the older calls that have no other.

mod administrators;
mod applications;
mod authorizations;
mod lists;
mod message;
mod organizations;
mod own;
mod projects;
mod refusal;
mod targets;
mod users;

use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;

use self::{
    message::Message,
    refusal::{Form, Refusal},
};
use crate::{
    answer::Answer,
    head::header_text,
    model::{Id, State},
    rights::{self, NoRight, Unknown},
    search,
};

/// A call of one of these APIs.
pub(crate) struct Call<'c> {
    pub(crate) state: &'c mut State,
    /// The user who calls.
    pub(crate) caller: Id,
    /// The organization that the call is about: the one of its header, or the caller's own.
    pub(crate) organization: Id,
    /// The end of the path of an older call, such as the id of a user.
    pub(crate) rest: String,
    pub(crate) message: Message,
}

/// The answer of a call.
pub(crate) type Outcome = Result<Value, Refusal>;

/// The function that makes the answer.
type Handler = fn(&mut Call<'_>) -> Outcome;

/// A request to these APIs.
pub(crate) struct Request<'r> {
    pub(crate) method: &'r Method,
    pub(crate) path: &'r str,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) body: &'r [u8],
}

/// The services.
const SERVICES: [&str; 7] = [
    "application.v2.ApplicationService",
    "action.v2.ActionService",
    "authorization.v2.AuthorizationService",
    "internal_permission.v2.InternalPermissionService",
    "org.v2.OrganizationService",
    "project.v2.ProjectService",
    "user.v2.UserService",
];

pub(crate) fn answer(state: &mut State, request: &Request<'_>) -> Answer {
    match request.path.strip_prefix("/zitadel.") {
        Some(method) => connect(state, request, method),
        None => older(state, request),
    }
}

/// A call by the Connect protocol: `POST /zitadel.<service>/<method>`.
fn connect(state: &mut State, request: &Request<'_>, path: &str) -> Answer {
    let Some((service, method)) = path.split_once('/').filter(|(service, _)| SERVICES.contains(service))
    else {
        return search::not_found();
    };
    let Some(handler) = handler(service, method) else {
        return Answer::plain(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n");
    };
    if let Some(answer) = wrong_protocol(request) {
        return answer;
    }
    let package = service.split('.').next().unwrap_or_default();
    let message = match Message::read(package, method, request.body) {
        Ok(message) => message,
        Err(refusal) => return refusal.answer(Form::Connect),
    };
    call(state, request, (message, ""), handler, Form::Connect)
}

fn wrong_protocol(request: &Request<'_>) -> Option<Answer> {
    let empty = |status| Answer::plain(status, "text/plain; charset=utf-8", "");
    if request.method != Method::POST {
        let answer = empty(StatusCode::METHOD_NOT_ALLOWED).with_header(header::ALLOW, "POST");
        return Some(without_type(answer));
    }
    let is_json = |value: &str| value.split(';').next().map(str::trim) == Some("application/json");
    if !header_text(request.headers, "content-type").is_some_and(is_json) {
        return Some(without_type(empty(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
    }
    let version = header_text(request.headers, "connect-protocol-version")?;
    let wrong = format!("Connect-Protocol-Version must be \"1\": got {version:?}");
    (version != "1").then(|| Refusal::invalid(wrong).answer(Form::Connect))
}

fn without_type(mut answer: Answer) -> Answer {
    answer.headers.remove(header::CONTENT_TYPE);
    answer
}

fn call(
    state: &mut State,
    request: &Request<'_>,
    (message, rest): (Message, &str),
    handler: Handler,
    form: Form,
) -> Answer {
    let caller = match rights::caller(state, header_text(request.headers, "authorization")) {
        Ok(caller) => caller,
        Err(unknown) => return Refusal::from(unknown).answer(form),
    };
    let own = state.users.iter().find(|user| user.id == caller).map(|user| user.organization.clone());
    let named = header_text(request.headers, "x-zitadel-orgid").map(str::to_owned);
    state.editor = Some(caller.clone());
    let organization = named.or(own).unwrap_or_default();
    let mut call = Call { state, caller, organization, rest: rest.to_owned(), message };
    let outcome = handler(&mut call);
    state.editor = None;
    match outcome {
        Ok(body) => Answer::json(StatusCode::OK, &body),
        Err(refusal) => refusal.answer(form),
    }
}

fn handler(service: &str, method: &str) -> Option<Handler> {
    Some(match (service.split('.').next()?, method) {
        ("org", "ListOrganizations") => organizations::list,
        ("project", "CreateProject") => projects::create,
        ("project", "DeleteProject") => projects::delete,
        ("project", "ListProjects") => projects::list,
        ("project", "GetProject") => projects::get,
        ("project", "AddProjectRole") => projects::add_role,
        ("project", "ListProjectRoles") => projects::list_roles,
        ("project", "RemoveProjectRole") => projects::remove_role,
        ("application", "CreateApplication") => applications::create,
        ("application", "ListApplications") => applications::list,
        ("application", "GetApplication") => applications::get,
        ("application", "CreateApplicationKey") => applications::create_key,
        ("application", "ListApplicationKeys") => applications::list_keys,
        ("application", "DeleteApplicationKey") => applications::delete_key,
        ("user", "CreateUser") => users::create,
        ("user", "DeleteUser") => users::delete,
        ("user", "GetUserByID") => users::get,
        ("user", "ListUsers") => users::list,
        ("user", "AddPersonalAccessToken") => users::add_token,
        ("user", "ListPersonalAccessTokens") => users::list_tokens,
        ("user", "RemovePersonalAccessToken") => users::remove_token,
        ("user", "AddKey") => users::add_key,
        ("user", "RemoveKey") => users::remove_key,
        ("authorization", "CreateAuthorization") => authorizations::create,
        ("authorization", "UpdateAuthorization") => authorizations::update,
        ("authorization", "DeleteAuthorization") => authorizations::delete,
        ("authorization", "DeactivateAuthorization") => authorizations::deactivate,
        ("authorization", "ListAuthorizations") => authorizations::list,
        ("action", "CreateTarget") => targets::create,
        ("action", "UpdateTarget") => targets::update,
        ("action", "DeleteTarget") => targets::delete,
        ("action", "ListTargets") => targets::list,
        ("action", "SetExecution") => targets::set_execution,
        ("action", "ListExecutions") => targets::list_executions,
        ("internal_permission", "CreateAdministrator") => administrators::create,
        ("internal_permission", "UpdateAdministrator") => administrators::update,
        ("internal_permission", "DeleteAdministrator") => administrators::delete,
        ("internal_permission", "ListAdministrators") => administrators::list,
        _ => return None,
    })
}

/// The calls of the older APIs. A path ends in the id of a user, where it has one.
fn older(state: &mut State, request: &Request<'_>) -> Answer {
    let path = request.path.trim_start_matches('/');
    let member = path.strip_prefix("admin/v1/members/").unwrap_or_default();
    let handler: Handler = match (request.method.as_str(), path) {
        ("GET", "auth/v1/users/me") => own::user,
        ("POST", "auth/v1/memberships/me/_search") => own::memberships,
        ("POST", "auth/v1/permissions/zitadel/me/_search") => own::permissions,
        ("POST", "auth/v1/permissions/me/_search") => own::project_permissions,
        ("GET", "management/v1/orgs/me") => organizations::own,
        ("POST", "management/v1/projects") => projects::create_v1,
        ("GET", "admin/v1/orgs/default") => organizations::default,
        ("POST", "admin/v1/members") => administrators::add_v1,
        ("POST", "admin/v1/members/_search") => administrators::search_v1,
        ("POST", "admin/v1/members/roles/_search") => administrators::roles_v1,
        ("PUT", _) if !member.is_empty() => administrators::update_v1,
        ("DELETE", _) if !member.is_empty() => administrators::remove_v1,
        _ => return search::not_found(),
    };
    let body = if request.body.is_empty() { b"{}" } else { request.body };
    match Message::read("v1", "", body) {
        Ok(message) => call(state, request, (message, member), handler, Form::Grpc),
        Err(refusal) => refusal.answer(Form::Grpc),
    }
}

impl Call<'_> {
    /// The check of ZITADEL's gateway: by the roles in the organization that the call is about.
    fn may(&self, permission: &str) -> Result<(), Refusal> {
        let checked = rights::check(self.state, &self.caller, &self.organization, permission);
        checked.map_err(|no_right| Refusal::no_right(no_right, "AUTH-5mWD2"))
    }

    /// The check of a command: by the roles in the organization that owns the thing.
    fn may_in(&self, organization: &str, permission: &str) -> Result<(), Refusal> {
        let checked = rights::check(self.state, &self.caller, organization, permission);
        checked.map_err(|no_right| Refusal::no_right(no_right, "AUTH-AWfge"))
    }

    /// Whether a list shows the things of an organization: it hides them in place of refusing.
    fn sees(&self, organization: &str, permission: &str) -> bool {
        rights::check(self.state, &self.caller, organization, permission).is_ok()
    }
}

impl From<Unknown> for Refusal {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::NoHeader => Self::unauthenticated("auth header missing", None),
            Unknown::NoBearer => Self::unauthenticated("invalid auth header", Some("AUTH-toLo1")),
            Unknown::InvalidToken => Self::unauthenticated("Errors.Token.Invalid", Some("AUTH-7fs1e")),
        }
    }
}

impl Refusal {
    /// ZITADEL answers 404 to a caller without any role, and 403 to one with the wrong role.
    pub(crate) fn no_right(no_right: NoRight, id: &'static str) -> Self {
        match no_right {
            NoRight::NoMembership => Self::not_found("membership not found", "AUTHZ-cdgFk"),
            NoRight::WrongRole => Self::denied("No matching permissions found", id),
        }
    }
}
