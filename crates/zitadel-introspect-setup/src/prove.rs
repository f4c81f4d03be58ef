//! Proves that a running API hears of a revocation: a silent feed cannot be told from one with nothing to say.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zitadel_introspect::{ConfigError, Management};

use crate::{
    answer::address,
    error::SetupError,
    expiry,
    rights::{Administrator, Needs},
    user,
};

/// How long the API may let a removed token in. It is less than the time for which an API without events holds a verdict.
const PATIENCE: Duration = Duration::from_secs(20);
/// An API may have held for some seconds that a token is inactive which was asked about too early.
const FIRST_PATIENCE: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The token dies in this time even if nothing removes it.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A proof that an API refuses a token soon after it was removed.
///
/// It makes a service user without any role, calls a route of the API with its personal access token, removes the token,
/// and waits until the API refuses it. The service user is removed after a failure as well; a process that is
/// killed leaves it, and its token ends within an hour.
#[derive(Debug, Clone)]
pub struct Proof {
    organization: Option<String>,
    route: Url,
}

impl Proof {
    /// By a route that needs a valid token, such as `http://localhost:8089/api/tasks`. A GET must do no harm.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `route` is no address of http or https.
    pub fn new(route: &str) -> Result<Self, ConfigError> {
        let route = address("prove", route, "give the address of a route that needs a valid token")?;
        Ok(Self { organization: None, route })
    }

    /// The organization of the service user, by its id or its name; the administrator's own unless set.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// Runs the proof, and says how long after its removal the token was refused.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotProven`] with the reason, and every other [`SetupError`].
    pub async fn run(&self, zitadel: &Management) -> Result<Duration, SetupError> {
        let administrator = Administrator::ask(zitadel, self.organization.as_deref()).await?;
        let needs = Needs::OrganizationOwner;
        administrator.check([user::WRITE, "user.delete"], needs)?;
        let name = format!("introspect-proof-{:012x}", expiry::random() >> 16);
        let robot = user::create(zitadel, &administrator.organization, &name).await?;
        let outcome = self.with(zitadel, &robot).await;
        let removed = user::delete(zitadel, &robot).await;
        let outcome = outcome?;
        removed.map(|()| outcome)
    }

    async fn with(&self, zitadel: &Management, robot: &str) -> Result<Duration, SetupError> {
        let made = user::make_token(zitadel, robot, &expiry::end(Some(LIFETIME))).await?;
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(TIMEOUT).build();
        let client =
            client.map_err(|_| SetupError::NotProven("the HTTP client cannot be made".to_owned()))?;
        let asks = Asks { client, route: &self.route, token: made.text };
        asks.until(FIRST_PATIENCE, |status| status != StatusCode::UNAUTHORIZED).await?.ok_or_else(|| {
            let problem = "refuses a good token: does it ask the same instance?";
            SetupError::NotProven(format!("{} {problem}", self.route))
        })?;
        // Now the API holds a verdict, and only an event can end it soon.
        user::remove_token(zitadel, robot, &made.id).await?;
        let refused = asks.until(PATIENCE, |status| status == StatusCode::UNAUTHORIZED).await?;
        refused.ok_or_else(|| {
            SetupError::NotProven(format!(
                "{} still lets a token in {} s after it was removed: no event has reached the server",
                self.route,
                PATIENCE.as_secs()
            ))
        })
    }
}

struct Asks<'a> {
    client: Client,
    route: &'a Url,
    token: SecretString,
}

impl Asks<'_> {
    /// Asks until the answer is as expected, and says how long that took; `None` if it was not in time.
    async fn until(
        &self,
        patience: Duration,
        is_expected: impl Fn(StatusCode) -> bool,
    ) -> Result<Option<Duration>, SetupError> {
        let began = Instant::now();
        loop {
            let status = self.ask().await?;
            if is_expected(status) {
                return Ok(Some(began.elapsed()));
            }
            if began.elapsed() > patience {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// 200, 401 or 403: everything else says nothing about the token.
    async fn ask(&self) -> Result<StatusCode, SetupError> {
        let request = self.client.get(self.route.clone()).bearer_auth(self.token.expose_secret());
        let says = |what: String| SetupError::NotProven(format!("{} {what}", self.route));
        let answer =
            request.send().await.map_err(|_| says("does not answer: does the server run?".to_owned()))?;
        let status = answer.status();
        let speaks_of_token =
            status.is_success() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        speaks_of_token.then_some(status).ok_or_else(|| {
            says(format!("answers with status {}: give a route that needs a valid token", status.as_u16()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_an_address() {
        assert!(Proof::new("http://localhost:8089/api/tasks").is_ok());
        for text in [
            "",
            "localhost:8089",
            "/api/tasks",
            "ftp://host/x",
            "http://me:secret@host/x",
            "http://me@host/x",
        ] {
            assert!(Proof::new(text).is_err(), "{text}");
        }
    }
}
