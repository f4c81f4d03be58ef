//! Reads a JWT access token ourselves (RFC 7519, RFC 8725; ZITADEL's tokens are not those of RFC 9068).
//!
//! Local verification cannot see revocation, deactivation or later role changes.

mod keys;

use jsonwebtoken::{Algorithm, crypto};

pub(crate) use self::keys::KeySource;
use self::keys::Keys;
use crate::{
    bearer::AccessToken,
    claims::{Broken, Claims, Members},
    clock::Now,
    error::InvalidToken,
    issuer_error::IssuerError,
    names::ProjectId,
};

/// Claims that only an ID token or a logout token carries: neither opens an API.
const NEVER_IN_ACCESS_TOKENS: [&str; 6] = ["azp", "nonce", "at_hash", "c_hash", "sid", "events"];

/// Verifies JWTs with the issuer's published keys.
pub(crate) struct LocalJwts {
    pub(crate) issuer: String,
    pub(crate) project: ProjectId,
    pub(crate) audience: Option<String>,
    pub(crate) keys: Keys,
}

/// Three parts that may hold a header, claims and a signature.
pub(crate) struct Jwt<'a> {
    message: &'a str,
    signature: &'a str,
    header: String,
    claims: String,
}

/// What a header says that counts. `jku`, `x5u`, `jwk` and `x5c` never do.
struct Header {
    algorithm: Algorithm,
    key_id: String,
}

impl LocalJwts {
    pub(crate) fn new(source: KeySource, issuer: &str, project: ProjectId, audience: Option<String>) -> Self {
        Self { issuer: issuer.to_owned(), project, audience, keys: Keys::new(source) }
    }

    /// The claims of a token whose signature, issuer, audience and times are right.
    pub(crate) async fn verify(
        &self,
        jwt: &Jwt<'_>,
        now: Now,
    ) -> Result<Result<Claims, InvalidToken>, IssuerError> {
        let header = match jwt.header() {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let Some(key) = self.keys.get(&header.key_id, now.instant).await? else {
            return Ok(Err(InvalidToken::UnknownKey));
        };
        if key.algorithm != header.algorithm || !jwt.is_signed_by(&key.decoding, key.algorithm) {
            return Ok(Err(InvalidToken::BadSignature));
        }
        Ok(self.claims(&jwt.claims, now))
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
    /// Takes a token apart; `None` where it cannot be a JWT.
    pub(crate) fn of(token: &'a AccessToken) -> Option<Self> {
        let text = std::str::from_utf8(token.as_bytes()).ok()?;
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        if claims.contains('.') {
            return None;
        }
        Some(Self { message, signature, header: decode(header)?, claims: decode(claims)? })
    }

    /// The claims, as JSON that nobody has verified.
    pub(crate) fn claims(&self) -> &str {
        &self.claims
    }

    fn header(&self) -> Result<Header, InvalidToken> {
        let malformed = |Broken(_)| InvalidToken::Malformed;
        let members = Members::read(&self.header).ok_or(InvalidToken::Malformed)?;
        let text = |name| members.checked::<String>(name).map_err(malformed);
        // No extension is understood, so whatever `crit` names is not (RFC 7515 section 4.1.11).
        if members.get("crit").map_err(malformed)?.is_some() {
            return Err(InvalidToken::Malformed);
        }
        let is_access_token_type = |kind: &String| {
            ["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(kind))
        };
        if !text("typ")?.as_ref().is_some_and(is_access_token_type) {
            return Err(InvalidToken::NotAnAccessToken);
        }
        let algorithm =
            text("alg")?.as_deref().and_then(keys::algorithm).ok_or(InvalidToken::BadSignature)?;
        let key_id = text("kid")?.ok_or(InvalidToken::UnknownKey)?;
        Ok(Header { algorithm, key_id })
    }

    fn is_signed_by(&self, key: &jsonwebtoken::DecodingKey, algorithm: Algorithm) -> bool {
        crypto::verify(self.signature, self.message.as_bytes(), key, algorithm).unwrap_or(false)
    }
}

fn decode(part: &str) -> Option<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok().filter(|text| text.starts_with('{'))
}
