//! The issuer, its users, and the server under test.

use std::net::SocketAddr;

use tonic::transport::Channel;
use zitadel_introspect_testkit::{Api, Issuer, Project, Token, User};

use crate::{
    Adapter, Protocol, Running, Settings,
    http::{Answer, bearer, request},
};

/// How a server is asked: on a connection for each request of HTTP, or on one for all calls of gRPC.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Http(SocketAddr),
    Grpc(Channel),
}

impl Target {
    fn new(protocol: Protocol, address: SocketAddr) -> Self {
        match protocol {
            Protocol::Http => Self::Http(address),
            Protocol::Grpc => Self::Grpc(crate::grpc::channel(address)),
        }
    }

    pub(crate) async fn get(self, path: &str, headers: &[String]) -> Answer {
        match self {
            Self::Http(address) => request(address, &format!("GET {path}"), headers).await,
            Self::Grpc(channel) => crate::grpc::get(channel, path, headers).await,
        }
    }
}

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) project: Project,
    pub(crate) other_project: Project,
    pub(crate) api: Api,
    pub(crate) server: Running,
    pub(crate) target: Target,
}

impl World {
    pub(crate) async fn new<A: Adapter>() -> Self {
        Self::with::<A>(|_| {}).await
    }

    pub(crate) async fn with<A: Adapter>(change: impl FnOnce(&mut Settings)) -> Self {
        let issuer = Issuer::start().await;
        let project = issuer.project("tasks");
        project.add_roles(["admin", "editor", "owner"]);
        let other_project = issuer.project("other");
        other_project.add_roles(["admin", "auditor"]);
        let api = project.api("api");
        let mut settings = Settings {
            issuer: issuer.url(),
            key_json: api.key_json(),
            other_project: other_project.id(),
            realm: None,
            resource: None,
            own_bodies: false,
            cache_off: false,
            without_verifier: false,
        };
        change(&mut settings);
        let server = A::serve(settings).await;
        let target = Target::new(A::PROTOCOL, server.address);
        Self { issuer, project, other_project, api, server, target }
    }

    /// A service user with roles on the API's project.
    pub(crate) fn user(&self, roles: &[&str]) -> User {
        let user = self.issuer.service_user("user");
        if !roles.is_empty() {
            user.grant(&self.project, roles);
        }
        user
    }

    /// A personal access token of a new user with these roles.
    pub(crate) fn token(&self, roles: &[&str]) -> Token {
        self.user(roles).pat()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[String]) -> Answer {
        self.target.clone().get(path, headers).await
    }

    pub(crate) async fn get_as(&self, path: &str, token: &str) -> Answer {
        self.get(path, &[bearer(token)]).await
    }
}

/// Status, challenge and body of a refusal.
pub(crate) fn refusal(answer: &Answer) -> (u16, Option<&str>, &str) {
    (answer.status, answer.header("www-authenticate"), &answer.body)
}
