//! The issuer's identifier, an origin compared as text (RFC 7519 section 4.1.1, RFC 8414 section 2).

use std::{fmt, net::IpAddr, str::FromStr};

use url::{Host, Url};

use crate::{echo, error::config::ConfigError};

/// A ZITADEL instance's issuer: `https://host[:port]`, the port left out when it is the scheme's default.
///
/// Compared character by character with the issuer in documents and tokens, which may include the default port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Issuer {
    url: Url,
    text: String,
}

impl Issuer {
    /// Reads `my-domain.zitadel.cloud`, `https://host[:port]` or `http://localhost:8080`.
    ///
    /// A name without a scheme means https. Plain http towards anything but a loopback host is refused
    /// when a verifier is built, unless [`VerifierBuilder::dangerous_allow_http`] was called.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything else: a path, a query, user information, another scheme, or a loopback host without
    /// a scheme. A trailing slash, as a browser shows it, is removed.
    ///
    /// ```
    /// use zitadel_introspect::Issuer;
    ///
    /// let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
    /// assert_eq!(issuer.as_str(), "https://my-domain.zitadel.cloud");
    /// assert_eq!(Issuer::parse("https://my-domain.zitadel.cloud/")?, issuer);
    /// # Ok::<(), zitadel_introspect::ConfigError>(())
    /// ```
    ///
    /// [`VerifierBuilder::dangerous_allow_http`]: crate::VerifierBuilder::dangerous_allow_http
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let origin = text.strip_suffix('/').unwrap_or(text);
        let url = parse_origin(origin).map_err(|(problem, remedy)| {
            ConfigError::invalid("issuer", format!("{} {problem}", echo::value(text)), remedy)
        })?;
        let text = url.origin().ascii_serialization();
        Ok(Self { url, text })
    }

    /// The issuer as it stands in tokens, such as `https://my-domain.zitadel.cloud`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a document or a token means this issuer. Compared character by character, except for the scheme's
    /// default port, which an issuer may include.
    pub(crate) fn is_named_by(&self, found: &str) -> bool {
        let default_port = if self.url.scheme() == "https" { ":443" } else { ":80" };
        let is_default = self.url.port().is_none();
        found == self.text
            || (is_default && found.strip_suffix(default_port).is_some_and(|found| found == self.text))
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// `host[:port]`, as a `Host` header would carry it.
    pub(crate) fn authority(&self) -> &str {
        self.text.split_once("://").map_or(&self.text, |(_, authority)| authority)
    }
}

impl FromStr for Issuer {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Issuer {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// In bytes (RFC 1035 section 2.3.4). Tokens and lines of a key, given by mistake, are longer: no request names them.
const LONGEST_LABEL: usize = 63;

type Complaint = (&'static str, &'static str);

/// An http or https origin and nothing more.
pub(crate) fn parse_origin(text: &str) -> Result<Url, Complaint> {
    const REMEDY: &str = "give the instance's domain, such as `my-domain.zitadel.cloud`, or its origin, \
                          such as `https://zitadel.example.com` or `http://localhost:8080`";
    let has_scheme = text.contains("://");
    let full = if has_scheme { text.to_owned() } else { format!("https://{text}") };
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    let url = Url::parse(&full).ok().filter(|_| !text.contains(odd));
    let url = url.ok_or(("is not an address", REMEDY))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(("is neither https nor http", REMEDY));
    }
    if url.host_str().is_some_and(|host| host.split('.').any(|label| label.len() > LONGEST_LABEL)) {
        return Err(("is no name of a host", REMEDY));
    }
    let authority = full.split_once("://").map_or("", |(_, rest)| rest);
    if authority.contains(['/', '?', '#']) {
        return Err(("has a path, a query or a trailing slash", "leave off everything behind host and port"));
    }
    if authority.contains('@') {
        return Err(("has user information", "leave off everything before the host"));
    }
    if !has_scheme && is_loopback(&url) {
        return Err(("names this machine without a scheme", "write `http://` or `https://` before it"));
    }
    Ok(url)
}

/// Whether an address never leaves this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_origins_are_accepted() {
        for (text, issuer, authority) in [
            ("my-domain.zitadel.cloud", "https://my-domain.zitadel.cloud", "my-domain.zitadel.cloud"),
            ("zitadel.example.com:8443", "https://zitadel.example.com:8443", "zitadel.example.com:8443"),
            ("https://host.example", "https://host.example", "host.example"),
            ("https://host.example:443", "https://host.example", "host.example"),
            ("https://host.example/", "https://host.example", "host.example"),
            ("host.example/", "https://host.example", "host.example"),
            ("HTTPS://Host.Example:8443", "https://host.example:8443", "host.example:8443"),
            ("http://localhost:8080", "http://localhost:8080", "localhost:8080"),
            ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
        ] {
            let parsed = Issuer::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.authority()), (issuer, authority), "{text}");
        }
    }

    #[test]
    fn a_label_of_a_host_has_63_bytes_at_most() {
        let host = |bytes: usize| format!("{}.example", "a".repeat(bytes));
        assert!(Issuer::parse(&host(63)).is_ok());
        let message = Issuer::parse(&host(64)).unwrap_err().to_string();
        assert!(message.starts_with("issuer: the value (not shown"), "{message}");
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_remedy() {
        for text in [
            "",
            " ",
            "https://",
            "https:///",
            "ftp://host.example",
            "https://host.example//",
            "https://host.example/path",
            "host.example//",
            "https://host.example?x",
            "https://host.example#x",
            "https://user@host.example",
            "https://user:pass@host.example",
            "host name",
            "https://host:port",
            "https://host:99999",
            "localhost:8080",
            "127.0.0.1",
            "host.example\n",
            "https://host.example\\",
            "javascript://host",
            "file:///etc/passwd",
            "://host",
        ] {
            let message = Issuer::parse(text).expect_err(text).to_string();
            assert!(message.starts_with("issuer: "), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
