//! What has ended, and when, in a form that one look-up answers for a token.
//!
//! A state machine without input and output. A moment is any number that grows: a time, or a position in a log.

use std::collections::HashMap;

use crate::{
    claims::Claims,
    names::{TokenId, UserId},
    seal::Name,
    verdict::evict::{Evict, session_of},
};

/// So many ends are remembered: about 10 MiB.
pub(crate) const MOST: usize = 100_000;
/// So many of those that are looked through one by one.
pub(crate) const MOST_WIDE: usize = 1000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    users: HashMap<UserId, i64>,
    tokens: HashMap<TokenId, i64>,
    names: HashMap<Name, i64>,
    /// By OIDC session: the newest token, which ended the others.
    newest: HashMap<String, (TokenId, i64)>,
    /// Evictions of another kind; there are few different ones.
    wide: Vec<(Evict, i64)>,
    /// Ends up to then may have been forgotten.
    lost_until: Option<i64>,
}

impl Ends {
    /// Something ended at that moment. If another token was the newest of its session until now: since when.
    pub(crate) fn record(&mut self, what: &Evict, at: i64) -> Option<i64> {
        let mut displaced = None;
        let newest = |known: &mut i64| *known = at.max(*known);
        match what {
            Evict::User(user) => newest(self.users.entry(user.clone()).or_insert(at)),
            Evict::Name(name) => newest(self.names.entry(*name).or_insert(at)),
            Evict::TokenId(token) => newest(self.tokens.entry(token.clone()).or_insert(at)),
            Evict::Predecessors(token) if session_of(token.as_str()).is_some() => {
                let session = session_of(token.as_str()).unwrap_or_default();
                let known = self.newest.get(session);
                displaced = known.filter(|(known, _)| known != token).map(|(_, since)| *since);
                if known.is_none_or(|(_, known)| *known <= at) {
                    self.newest.insert(session.to_owned(), (token.clone(), at));
                }
            }
            other => match self.wide.iter_mut().find(|(known, _)| known == other) {
                Some((_, known)) => newest(known),
                None => self.wide.push((other.clone(), at)),
            },
        }
        if self.len() > MOST || self.wide.len() > MOST_WIDE {
            self.forget_older_half();
        }
        displaced
    }

    /// Whether an end behind that moment means a token with these claims. `is_match` decides on those of another kind.
    pub(crate) fn any_behind(
        &self,
        moment: i64,
        claims: &Claims,
        name: Option<&Name>,
        is_match: impl Fn(&Evict) -> bool,
    ) -> bool {
        let is_behind = |at: &i64| *at > moment;
        let token = claims.token_id();
        let of_token = token.is_none_or(|token| self.tokens.get(token).is_some_and(is_behind));
        let session = token.and_then(session_of);
        let of_session = session.and_then(|session| self.tokens.get(session)).is_some_and(is_behind);
        let newest = session.and_then(|session| self.newest.get(session));
        let is_replaced = newest.is_some_and(|(newest, at)| token != Some(newest.as_str()) && is_behind(at));
        let of_user = claims.subject().is_none_or(|user| self.users.get(user).is_some_and(is_behind));
        let of_name = name.and_then(|name| self.names.get(name)).is_some_and(is_behind);
        let is_wide = || self.wide.iter().any(|(what, at)| is_behind(at) && is_match(what));
        of_token || of_session || is_replaced || of_user || of_name || is_wide()
    }

    /// Whether a token of that name was evicted by name.
    pub(crate) fn has_name(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    pub(crate) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Ends up to then may have been forgotten.
    pub(crate) fn lost_until(&self) -> Option<i64> {
        self.lost_until
    }

    /// How many of those that one look-up finds.
    pub(crate) fn len(&self) -> usize {
        self.users.len() + self.tokens.len() + self.names.len() + self.newest.len()
    }

    pub(crate) fn forget_until(&mut self, until: i64) {
        self.lost_until = self.lost_until.max(Some(until));
        self.users.retain(|_, at| *at > until);
        self.tokens.retain(|_, at| *at > until);
        self.names.retain(|_, at| *at > until);
        self.newest.retain(|_, (_, at)| *at > until);
        self.wide.retain(|(_, at)| *at > until);
    }

    /// Makes room: what is older than the median is not known any more.
    fn forget_older_half(&mut self) {
        let mut times: Vec<i64> = if self.wide.len() > MOST_WIDE {
            self.wide.iter().map(|(_, at)| *at).collect()
        } else {
            let of_sessions = self.newest.values().map(|(_, at)| at);
            let named = self.tokens.values().chain(self.names.values());
            self.users.values().chain(named).chain(of_sessions).copied().collect()
        };
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.forget_until(median);
    }
}
