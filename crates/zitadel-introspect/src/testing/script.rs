//! A test's own answers about its tokens, in place of an issuer.

use std::collections::HashMap;

use crate::{
    claims::Claims,
    error::{InvalidToken, issuer::IssuerError},
    issuer::introspection::Answer,
    token::AccessToken,
};

/// Tokens by their bytes. A token that is not in the table is inactive.
#[derive(Clone, Default)]
pub(crate) struct Script(HashMap<Vec<u8>, Scripted>);

#[derive(Debug, Clone)]
pub(crate) enum Scripted {
    Active(Box<Claims>),
    Refused(InvalidToken),
    Unavailable,
}

impl Script {
    pub(crate) fn set(&mut self, token: &str, says: Scripted) {
        self.0.insert(token.into(), says);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn answer(&self, token: &AccessToken) -> Result<Answer, IssuerError> {
        match self.0.get(token.as_bytes()) {
            Some(Scripted::Active(claims)) => Ok(Ok(claims.clone())),
            Some(Scripted::Refused(reason)) => Ok(Err(*reason)),
            Some(Scripted::Unavailable) => Err(IssuerError::TimedOut),
            None => Ok(Err(InvalidToken::Inactive)),
        }
    }
}
