//! How errors look, and how the API describes itself: as a user sets it.

use std::sync::Arc;

use http::HeaderValue;

use crate::{
    echo,
    error::{AuthError, ErrorBody, Presentation, config::ConfigError},
    resource::ProtectedResource,
};

/// The settings as they were made, not checked yet.
#[derive(Default)]
pub(crate) struct PresentationSettings {
    pub(crate) realm: Option<String>,
    pub(crate) resource: Option<(String, Vec<String>)>,
    pub(crate) error_body: Option<(String, RenderBody)>,
}

pub(crate) type RenderBody = Box<dyn Fn(&AuthError) -> String + Send + Sync>;

impl PresentationSettings {
    pub(crate) fn check(self) -> Result<(Arc<Presentation>, Option<ProtectedResource>), ConfigError> {
        let resource = self.resource.map(|(resource, scopes)| ProtectedResource::parse(resource, scopes));
        let resource = resource.transpose()?;
        let presentation = Presentation {
            realm: self.realm.map(check_realm).transpose()?,
            resource_metadata: resource.as_ref().map(ProtectedResource::address),
            body: self.error_body.map(error_body).transpose()?,
        };
        Ok((Arc::new(presentation), resource))
    }
}

fn check_realm(realm: String) -> Result<String, ConfigError> {
    let harmless = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if realm.bytes().all(harmless) {
        return Ok(realm);
    }
    let problem = format!("{} has characters that a challenge cannot carry", echo::value(&realm));
    Err(ConfigError::invalid("realm", problem, "use printable ASCII without quotes and backslashes"))
}

fn error_body((content_type, render): (String, RenderBody)) -> Result<ErrorBody, ConfigError> {
    let content_type = HeaderValue::try_from(&content_type).map_err(|_| {
        let problem = format!("{} is not a media type", echo::value(&content_type));
        ConfigError::invalid("error_body", problem, "give one such as `application/problem+json`")
    })?;
    Ok(ErrorBody { content_type, render })
}

/// The setters of a builder that has a field for [`PresentationSettings`] at this place.
macro_rules! presentation_setters {
    ($($place:tt)+) => {
        /// The `realm` of each challenge (RFC 9110 section 11.5).
        #[must_use]
        pub fn realm(mut self, realm: impl Into<String>) -> Self {
            self.$($place)+.realm = Some(realm.into());
            self
        }

        /// The API's own public address and the scopes that it knows, for [RFC 9728]: an adapter's ready-made route
        /// then describes the API, and each challenge names the address of this route. Never taken from a request.
        ///
        /// [RFC 9728]: https://www.rfc-editor.org/rfc/rfc9728
        #[must_use]
        pub fn resource<S: Into<String>>(
            mut self,
            resource: impl Into<String>,
            scopes: impl IntoIterator<Item = S>,
        ) -> Self {
            let scopes = scopes.into_iter().map(Into::into).collect();
            self.$($place)+.resource = Some((resource.into(), scopes));
            self
        }

        /// Renders the bodies of errors in a form of your own; status and headers stay the same.
        ///
        /// ```
        /// # use zitadel_introspect::{TestCaller, TestTokens};
        /// let verifier = TestTokens::new()
        ///     .error_body("application/problem+json", |error| {
        ///         format!(r#"{{"status":{},"title":"access refused"}}"#, error.status().as_u16())
        ///     })
        ///     .verifier();
        /// ```
        #[must_use]
        pub fn error_body(
            mut self,
            content_type: impl Into<String>,
            render: impl Fn(&crate::AuthError) -> String + Send + Sync + 'static,
        ) -> Self {
            self.$($place)+.error_body = Some((content_type.into(), Box::new(render)));
            self
        }
    };
}
pub(crate) use presentation_setters;
