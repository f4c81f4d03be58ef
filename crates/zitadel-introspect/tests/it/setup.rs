//! An issuer with a project, an API and users, and verifiers for them.

use zitadel_introspect::{
    AuthError, Caller, ClientAuth, Issuer, Reason, Requirement, Verifier, VerifierBuilder,
};
use zitadel_introspect_testkit::{self as testkit, Api, Project, Token, User};

pub(crate) struct World {
    pub(crate) issuer: testkit::Issuer,
    pub(crate) project: Project,
    pub(crate) api: Api,
    pub(crate) admin: User,
    pub(crate) token: Token,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::at(testkit::Issuer::builder()).await
    }

    pub(crate) async fn at(builder: testkit::IssuerBuilder) -> Self {
        let issuer = builder.start().await.unwrap();
        let project = issuer.project("tasks");
        project.add_roles(["admin", "viewer"]);
        let api = project.api("api");
        let admin = issuer.service_user("admin");
        admin.grant(&project, ["admin"]);
        let token = admin.pat();
        Self { issuer, project, api, admin, token }
    }

    pub(crate) fn builder(&self) -> VerifierBuilder {
        let auth = ClientAuth::key_json(&self.api.key_json()).unwrap();
        Verifier::builder(Issuer::parse(&self.issuer.url()).unwrap(), auth)
    }

    pub(crate) fn verifier(&self) -> Verifier {
        self.builder().build().unwrap()
    }
}

pub(crate) async fn authorize(verifier: &Verifier, token: &str) -> Result<Caller, AuthError> {
    require(verifier, token, &Requirement::any_caller()).await
}

pub(crate) async fn require(
    verifier: &Verifier,
    token: &str,
    requirement: &Requirement,
) -> Result<Caller, AuthError> {
    verifier.authorize([format!("Bearer {token}").as_bytes()], requirement).await
}

/// The status of a refusal, 200 where there is none.
pub(crate) fn status<T>(outcome: &Result<T, AuthError>) -> u16 {
    outcome.as_ref().err().map_or(200, |error| error.status().as_u16())
}

/// An error and all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn reason(outcome: Result<Caller, AuthError>) -> Reason {
    outcome.unwrap_err().reason().clone()
}
