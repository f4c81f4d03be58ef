//! What is known of the searches, of the past, and of the issuer's types.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::feed::{reader::Reader, search::Filter};

/// How often what only changes claims is asked for.
pub(super) const CLAIMS_INTERVAL: Duration = Duration::from_secs(5);

/// The events of one search.
pub(super) struct Stream {
    pub(super) filter: Filter,
    pub(super) reader: Reader,
    /// Only claims: asked for less often.
    pub(super) is_of_claims: bool,
    /// When the first search of its newest complete round was sent.
    pub(super) complete_at: Option<Instant>,
}

impl Stream {
    pub(super) fn new(filter: Filter, is_of_claims: bool) -> Self {
        Self { filter, reader: Reader::new(), is_of_claims, complete_at: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        let rests = |at: Instant| self.is_of_claims && now.saturating_duration_since(at) < CLAIMS_INTERVAL;
        !self.complete_at.is_some_and(rests)
    }
}

/// How far the past was read.
#[derive(Default)]
pub(super) struct Past {
    /// What is older is not shown any more.
    pub(super) oldest: Option<i64>,
    /// Not before this instant: reading it has failed.
    pub(super) rests_until: Option<Instant>,
}

/// What is known of the issuer's types.
#[derive(Default)]
pub(super) struct Types {
    pub(super) asked_at: Option<Instant>,
    pub(super) followed: BTreeSet<String>,
    pub(super) is_told: bool,
}
