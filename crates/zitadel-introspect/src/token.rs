//! From header bytes to an access token (RFC 6750 section 2.1, RFC 9110 section 11.1).

use std::{fmt, str::FromStr, sync::Arc};

use crate::error::Reason;

/// The longest token that is accepted, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What the caller presents: an opaque token, a JWT or a personal access token.
///
/// Always a well-formed `b64token` of RFC 6750 of at most 16 KiB; all bytes are compared exactly. Cheap to clone. Never
/// printed. Not wiped from memory, because the buffers of the server, of TLS and of the HTTP client contain the same
/// bytes and are not wiped either.
#[derive(Clone)]
pub struct AccessToken(Arc<[u8]>);

impl AccessToken {
    /// Takes the token from all `Authorization` fields of a request.
    ///
    /// The scheme is not case-sensitive; one or more spaces and one `b64token` follow; white space around the field is
    /// ignored.
    pub(crate) fn from_headers<'h>(fields: impl IntoIterator<Item = &'h [u8]>) -> Result<Self, Reason> {
        let mut fields = fields.into_iter();
        let field = fields.next().ok_or(Reason::MissingToken)?;
        if fields.next().is_some() {
            return Err(Reason::RepeatedHeader);
        }
        Self::from_field(trim(field))
    }

    fn from_field(field: &[u8]) -> Result<Self, Reason> {
        if field.is_empty() {
            return Err(Reason::MissingToken);
        }
        let scheme_end = field.iter().position(|byte| !is_scheme_byte(*byte));
        let (scheme, rest) = field.split_at(scheme_end.unwrap_or(field.len()));
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Err(Reason::UnsupportedScheme);
        }
        let token = trim_spaces_start(rest);
        let separated = token.len() < rest.len();
        if token.len() > MAX_TOKEN_BYTES {
            Err(Reason::TokenTooLong)
        } else if separated && is_b64token(token) {
            Ok(Self(token.into()))
        } else {
            Err(Reason::MalformedToken)
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A token that no issuer ever issued, for a question that only tests the issuer.
    pub(crate) fn never_issued() -> Self {
        let (left, right) = (crate::random::u64(), crate::random::u64());
        Self(format!("check-{left:016x}{right:016x}").as_bytes().into())
    }
}

/// From the text of the token alone, without the scheme.
impl FromStr for AccessToken {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        let token = text.as_bytes();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TokenTooLong);
        }
        is_b64token(token).then(|| Self(token.into())).ok_or(Reason::MalformedToken)
    }
}

impl TryFrom<&str> for AccessToken {
    type Error = Reason;

    fn try_from(text: &str) -> Result<Self, Reason> {
        text.parse()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessToken([redacted])")
    }
}

fn trim(field: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = field.iter().position(|byte| !is_white(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_white(byte)).map_or(start, |last| last + 1);
    &field[start..end]
}

fn trim_spaces_start(rest: &[u8]) -> &[u8] {
    let start = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    &rest[start..]
}

/// A `tchar` of RFC 9110 section 5.6.2.
fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_b64token(token: &[u8]) -> bool {
    let end = token.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    // Without a branch for each byte: this runs at each request.
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    end > 0 && token[..end].iter().fold(true, |good, byte| good & is_token_byte(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(field: &[u8]) -> Result<Vec<u8>, Reason> {
        AccessToken::from_headers([field]).map(|token| token.as_bytes().to_vec())
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_white_space_around_is_ignored() {
        for field in ["Bearer abc", "bearer abc", "BEARER   abc", " \tBeArEr abc\t "] {
            assert_eq!(read(field.as_bytes()).unwrap(), b"abc", "{field:?}");
        }
    }

    #[test]
    fn no_credentials_another_scheme_and_broken_ones_are_told_apart() {
        let reason = |field: &str| read(field.as_bytes()).unwrap_err();
        for field in ["", " ", "\t"] {
            assert!(matches!(reason(field), Reason::MissingToken), "{field:?}");
        }
        for field in ["Basic abc", "abc", "Bearerabc", "Bearer-x abc", "\u{e9} abc", "\"Bearer\" x"] {
            assert!(matches!(reason(field), Reason::UnsupportedScheme), "{field:?}");
        }
        for field in [
            "Bearer",
            "Bearer ",
            "Bearer\tabc",
            "Bearer a b",
            "Bearer =",
            "Bearer a=b",
            "Bearer a,b",
            "Bearer abc\u{e9}",
            "Bearer, abc",
            "Bearer \tabc",
            "Bearer \"abc\"",
            "Bearer/abc",
        ] {
            assert!(matches!(reason(field), Reason::MalformedToken), "{field:?}");
        }
    }

    #[test]
    fn two_fields_are_refused_even_if_each_would_pass_alone() {
        let field: &[u8] = b"Bearer abc";
        let refused = AccessToken::from_headers([field, field]).unwrap_err();
        assert!(matches!(refused, Reason::RepeatedHeader));
    }

    #[test]
    fn a_token_of_the_limit_passes_and_one_byte_more_does_not() {
        let field = |length| [b"Bearer ".as_slice(), &vec![b'a'; length]].concat();
        assert_eq!(MAX_TOKEN_BYTES, 16_384);
        assert!(AccessToken::try_from("a".repeat(MAX_TOKEN_BYTES).as_str()).is_ok());
        assert!(AccessToken::try_from("a".repeat(MAX_TOKEN_BYTES + 1).as_str()).is_err());
        assert_eq!(read(&field(MAX_TOKEN_BYTES)).unwrap().len(), MAX_TOKEN_BYTES);
        assert!(matches!(read(&field(MAX_TOKEN_BYTES + 1)), Err(Reason::TokenTooLong)));
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = AccessToken::from_headers([b"Bearer s3cret".as_slice()]).unwrap();
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    fn foreign_byte() -> impl Strategy<Value = u8> {
        let is_foreign = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-._~+/=".contains(byte);
        prop::sample::select((0..=u8::MAX).filter(is_foreign).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_only_whole_b64tokens_come_out(
            field in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            if let Ok(token) = read(&field) {
                prop_assert!(is_b64token(&token));
            }
        }

        #[test]
        fn a_well_formed_field_yields_its_token_exactly(
            scheme in "[bB][eE][aA][rR][eE][rR]", spaces in " {1,4}", before in "[ \t]{0,3}",
            token in "[A-Za-z0-9._~+/-]{1,40}={0,3}", after in "[ \t]{0,3}"
        ) {
            let field = format!("{before}{scheme}{spaces}{token}{after}");
            prop_assert_eq!(read(field.as_bytes()).unwrap(), token.as_bytes());
        }

        #[test]
        fn one_foreign_byte_anywhere_in_the_token_refuses_it(
            token in "[A-Za-z0-9._~+/-]{2,20}", foreign in foreign_byte(), at in 1_usize..20
        ) {
            let at = at.min(token.len() - 1);
            let mut bytes = token.into_bytes();
            bytes.insert(at, foreign);
            prop_assert!(read(&[b"Bearer ".as_slice(), &bytes].concat()).is_err());
        }
    }
}
