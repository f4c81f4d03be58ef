//! Local verification of JWT access tokens (RFC 7519, RFC 8725; ZITADEL's tokens do not follow RFC 9068).
//!
//! Local verification cannot see revocation, deactivation or later role changes.

use std::sync::atomic::{AtomicBool, Ordering};

use jsonwebtoken::{Algorithm, crypto};

use crate::{
    claims::{Broken, Claims, Members},
    clock::Now,
    error::InvalidToken,
    error::issuer::IssuerError,
    issuer::{
        keys::{self, Key, Keys},
        name::Issuer,
    },
    names::ProjectId,
    token::AccessToken,
};

/// Claims that only an ID token or a logout token carries: an API accepts neither.
const NEVER_IN_ACCESS_TOKENS: [&str; 6] = ["azp", "nonce", "at_hash", "c_hash", "sid", "events"];

/// Verifies JWTs with the issuer's published keys.
pub(crate) struct LocalJwts {
    issuer: Issuer,
    project: ProjectId,
    audience: Option<String>,
    pub(crate) keys: Keys,
    /// Whether the error about JWTs with an unsupported algorithm was logged already.
    told: AtomicBool,
}

/// The outcome of the local verification of a JWT.
pub(crate) enum Reading {
    /// Signature, issuer, audience and times are right.
    Valid(Box<Claims>),
    Refused(InvalidToken),
    /// The key or the algorithm is not known here. The issuer may have signed the JWT, so the issuer must be asked.
    Unreadable(InvalidToken),
}

/// Three parts that may hold a header, claims and a signature.
pub(crate) struct Jwt<'a> {
    message: &'a str,
    signature: &'a str,
    header: String,
    claims: String,
}

/// The parameters of a header that count. `jku`, `x5u`, `jwk` and `x5c` never do.
struct Header {
    /// The name of the algorithm.
    name: String,
    /// `None` for an algorithm that the issuer may use and this library cannot verify.
    algorithm: Option<Algorithm>,
    key_id: Option<String>,
}

impl LocalJwts {
    pub(crate) fn new(keys: Keys, issuer: Issuer, project: ProjectId, audience: Option<String>) -> Self {
        Self { issuer, project, audience, keys, told: AtomicBool::new(false) }
    }

    /// Checks signature, issuer, audience and times. Fetches the keys if the token names an unknown key.
    pub(crate) async fn read(&self, jwt: &Jwt<'_>, now: Now) -> Result<Reading, IssuerError> {
        let header = match jwt.header() {
            Ok(header) => header,
            Err(error) => return Ok(Reading::Refused(error)),
        };
        let Some(key_id) = &header.key_id else {
            return Ok(Reading::Unreadable(InvalidToken::UnknownKey));
        };
        let found = self.keys.get(key_id).await?;
        Ok(self.read_by(&found, &header, jwt, now))
    }

    /// As [`read`](Self::read), but only with keys that were fetched already; `None` if they are not enough to decide.
    pub(crate) fn read_by_known(&self, jwt: &Jwt<'_>, now: Now) -> Option<Reading> {
        let header = jwt.header().ok()?;
        let found = self.keys.known(header.key_id.as_ref()?)?;
        Some(self.read_by(&found, &header, jwt, now))
    }

    fn read_by(&self, found: &[Key], header: &Header, jwt: &Jwt<'_>, now: Now) -> Reading {
        if found.is_empty() {
            return Reading::Unreadable(InvalidToken::UnknownKey);
        }
        let by = header.algorithm;
        let mut fitting =
            found.iter().filter_map(|key| by.and_then(|by| Some((key.verifies(by)?, by)))).peekable();
        if fitting.peek().is_none() {
            if found.iter().any(|key| key.may_sign_unreadably(&header.name)) {
                return Reading::Unreadable(InvalidToken::UnsupportedAlgorithm);
            }
            if by.is_none() {
                // All keys with that id are readable and none uses this algorithm. The issuer may still use it, so it
                // may be asked.
                return Reading::Unreadable(InvalidToken::BadSignature);
            }
        }
        if !fitting.any(|(key, by)| jwt.is_signed_by(key, by)) {
            return Reading::Refused(InvalidToken::BadSignature);
        }
        match self.claims(&jwt.claims, now) {
            Ok(claims) => Reading::Valid(Box::new(claims)),
            Err(reason) => Reading::Refused(reason),
        }
    }

    /// Logs once that tokens are refused although the issuer may have signed them.
    pub(crate) fn tell_unreadable(&self, reason: InvalidToken) {
        if reason == InvalidToken::UnsupportedAlgorithm && !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "JWTs ARE REFUSED: they are signed by an algorithm that cannot be verified here, such as ES512, and \
                this verifier has no credentials to ask the issuer; let the issuer sign with RS256 or ES256, or give \
                the verifier the key of an API application"
            );
        }
    }

    fn claims(&self, document: &str, now: Now) -> Result<Claims, InvalidToken> {
        let members = Members::read(document).ok_or(InvalidToken::Malformed)?;
        let has = |name| Ok(members.get(name).map_err(|Broken(_)| InvalidToken::Malformed)?.is_some());
        for name in NEVER_IN_ACCESS_TOKENS {
            if has(name)? {
                return Err(InvalidToken::NotAnAccessToken);
            }
        }
        if !has("jti")? {
            return Err(InvalidToken::NotAnAccessToken);
        }
        for (required, error) in [
            ("iss", InvalidToken::OtherIssuer),
            ("aud", InvalidToken::OtherAudience),
            ("exp", InvalidToken::Expired),
        ] {
            if !has(required)? {
                return Err(error);
            }
        }
        let claims = Claims::from_jwt(document, &members, &self.project)
            .map_err(|Broken(_)| InvalidToken::Malformed)?;
        let audience = self.audience.as_deref().unwrap_or(self.project.as_str());
        claims.check_origin(&self.issuer, Some(audience))?;
        claims.check_times(now.wall())?;
        Ok(claims)
    }
}

impl<'a> Jwt<'a> {
    /// Splits a token into its parts; `None` if it cannot be a JWT.
    pub(crate) fn of(token: &'a AccessToken) -> Option<Self> {
        let text = std::str::from_utf8(token.as_bytes()).ok()?;
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        if claims.contains('.') {
            return None;
        }
        Some(Self { message, signature, header: decode(header)?, claims: decode(claims)? })
    }

    /// The claims, as unverified JSON.
    pub(crate) fn claims(&self) -> &str {
        &self.claims
    }

    /// The token's `exp`, unverified; `i64::MAX` if the token has no `exp`.
    pub(crate) fn end(&self) -> i64 {
        let exp = Members::read(&self.claims).and_then(|members| members.lenient_date("exp").ok().flatten());
        exp.map_or(i64::MAX, |date| date.ceil())
    }

    fn header(&self) -> Result<Header, InvalidToken> {
        let malformed = |Broken(_)| InvalidToken::Malformed;
        let members = Members::read(&self.header).ok_or(InvalidToken::Malformed)?;
        let text = |name| members.checked::<String>(name).map_err(malformed);
        // We understand no extension, so we must refuse every token with `crit` (RFC 7515 section 4.1.11).
        if members.names("crit") {
            return Err(InvalidToken::Malformed);
        }
        let is_access_token_type = |kind: &String| {
            ["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(kind))
        };
        if !text("typ")?.as_ref().is_some_and(is_access_token_type) {
            return Err(InvalidToken::NotAnAccessToken);
        }
        let name = text("alg")?.filter(|name| may_be_the_issuers(name)).ok_or(InvalidToken::BadSignature)?;
        let algorithm = keys::algorithm(&name);
        Ok(Header { name, algorithm, key_id: text("kid")? })
    }

    fn is_signed_by(&self, key: &jsonwebtoken::DecodingKey, algorithm: Algorithm) -> bool {
        crypto::verify(self.signature, self.message.as_bytes(), key, algorithm).unwrap_or(false)
    }
}

/// Whether an issuer may sign access tokens by this algorithm: never by `none`, and never with a shared secret.
fn may_be_the_issuers(algorithm: &str) -> bool {
    let name = algorithm.trim().to_ascii_lowercase();
    !name.is_empty() && name != "none" && !name.starts_with("hs")
}

fn decode(part: &str) -> Option<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok().filter(|text| text.starts_with('{'))
}
