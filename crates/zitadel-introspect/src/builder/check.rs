//! Settings that are out of bounds, contradict each other, or have no effect.

use std::time::Duration;

use crate::{
    builder::settings::{CACHE_TTL, LONGEST_HOLD, Settings},
    echo,
    error::config::ConfigError,
    issuer::client_auth::ClientAuth,
};

const TIMEOUT_CEILING: Duration = Duration::from_secs(10);
const CACHE_TTL_CEILING: Duration = Duration::from_secs(3600);
const NEGATIVE_TTL_CEILING: Duration = Duration::from_secs(10);
const STALE_CEILING: Duration = Duration::from_secs(3600);
const HOLD_CEILING: Duration = Duration::from_secs(24 * 3600);
const MAX_ANSWER_BYTES_CEILING: usize = 64 * 1024 * 1024;
const LEAST_ANSWER_BYTES: usize = 1024;

impl Settings {
    pub(super) fn check_bounds(&self) -> Result<(), ConfigError> {
        let cache = &self.cache;
        let ttl = cache.ttl.unwrap_or(CACHE_TTL);
        check_duration("timeout", Some(self.timeout), TIMEOUT_CEILING)?;
        check_duration("connect_timeout", self.connect_timeout, self.timeout)?;
        check_duration("denial_refresh_interval", cache.denial_interval, CACHE_TTL_CEILING)?;
        check_duration("cache_ttl", cache.ttl, CACHE_TTL_CEILING)?;
        check_duration("negative_cache_ttl", cache.negative_ttl, NEGATIVE_TTL_CEILING)?;
        check_duration("refresh_ahead", cache.refresh_ahead, ttl)?;
        check_duration("confirm_local_verdicts_within", self.confirm_within, ttl)?;
        check_duration("serve_stale_on_error", cache.stale_for, STALE_CEILING)?;
        check_duration("longest_hold", cache.longest_hold, HOLD_CEILING)?;
        if let Some(feed) = &self.feed {
            feed.check()?;
        }
        let bytes = self.max_answer_bytes;
        if !(LEAST_ANSWER_BYTES..=MAX_ANSWER_BYTES_CEILING).contains(&bytes) {
            let problem =
                format!("{bytes} is not within {LEAST_ANSWER_BYTES} and {MAX_ANSWER_BYTES_CEILING}");
            let remedy = "choose a number of bytes within these bounds";
            return Err(ConfigError::invalid("max_answer_bytes", problem, remedy));
        }
        let least = self.largest_verdict();
        if cache.bytes.is_some_and(|bytes| bytes < least) {
            let problem = format!(
                "is less than {least}: the verdict of an answer of {bytes} bytes (`max_answer_bytes`) could not be held"
            );
            let remedy = "choose a larger number of bytes, or a smaller `max_answer_bytes`";
            return Err(ConfigError::invalid("cache_bytes", problem, remedy));
        }
        for (field, count) in
            [("cache_capacity", cache.capacity), ("negative_cache_capacity", cache.negative_capacity)]
        {
            if count == Some(0) {
                let remedy = "choose a number of verdicts";
                return Err(ConfigError::invalid(field, "is zero".to_owned(), remedy));
            }
        }
        Ok(())
    }

    pub(super) fn check_contradictions(&self) -> Result<(), ConfigError> {
        if let (Some(project), Some(local)) = (&self.project, &self.local.project)
            && project != local
        {
            let problem = format!(
                "names the project {}, and `verify_jwts_locally_without_revocation` the project {}: the format of a \
                token would choose whose roles count",
                echo::value(project.as_str()),
                echo::value(local.as_str())
            );
            return Err(ConfigError::invalid(
                "project",
                problem,
                "give both the same project, or make two verifiers",
            ));
        }
        if self.local.has_two_projects {
            let field = "verify_jwts_locally_without_revocation";
            let problem = "is called for two projects";
            return Err(ConfigError::invalid(
                field,
                problem.to_owned(),
                "name one project, or make two verifiers",
            ));
        }
        if self.is_single_use && self.client_auth.as_ref().is_none_or(ClientAuth::is_secret) {
            let problem = "has no effect: no key signs assertions for this verifier".to_owned();
            return Err(ConfigError::invalid("fresh_assertions", problem, "leave it out"));
        }
        let own = "confirm_local_verdicts_within";
        if self.confirm_within.is_some() {
            if self.cache.is_off {
                return Err(no_effect(own, "beside `cache_off`"));
            }
            if self.local.project.is_none() {
                return Err(no_effect(own, "without `verify_jwts_locally_without_revocation`"));
            }
        }
        if !self.may_follow_events() && self.cache.longest_hold.is_some() {
            return Err(no_effect("longest_hold", "without `event_feed` or `shared`"));
        }
        self.check_longest_hold()?;
        self.check_local()?;
        self.check_cache_wishes()
    }

    /// The name of the setting says whether revocation is seen.
    fn check_local(&self) -> Result<(), ConfigError> {
        match (self.may_follow_events(), self.local.relies_on_feed, &self.local.project) {
            (false, true, _) => {
                let problem = "needs `event_feed` or `shared`: revocation would not be seen".to_owned();
                let remedy = "set it, or call `verify_jwts_locally_without_revocation`";
                Err(ConfigError::invalid("verify_jwts_locally", problem, remedy))
            }
            (true, false, Some(_)) => {
                let problem =
                    "is not true beside `event_feed` or `shared`, by which revocation is seen".to_owned();
                let field = "verify_jwts_locally_without_revocation";
                Err(ConfigError::invalid(field, problem, "call `verify_jwts_locally`"))
            }
            _ => Ok(()),
        }
    }

    /// A hold that is shorter than the time without a feed would shorten what the feed should prolong.
    fn check_longest_hold(&self) -> Result<(), ConfigError> {
        let ttl = self.cache.ttl.unwrap_or(CACHE_TTL);
        let hold = self.cache.longest_hold.unwrap_or(LONGEST_HOLD);
        if self.may_follow_events() && self.cache.refresh_ahead.is_some_and(|ahead| ahead > hold / 2) {
            let problem = format!(
                "is more than half of `longest_hold`, {hold:?}: verdicts would be renewed at each use"
            );
            return Err(ConfigError::invalid("refresh_ahead", problem, "choose a shorter time"));
        }
        match self.cache.longest_hold.filter(|hold| *hold < ttl) {
            None => Ok(()),
            Some(hold) => {
                let problem = format!("{hold:?} is shorter than `cache_ttl`, {ttl:?}");
                Err(ConfigError::invalid("longest_hold", problem, "choose a longer time"))
            }
        }
    }

    /// Each setting of the cache, and whether it was set.
    fn check_cache_wishes(&self) -> Result<(), ConfigError> {
        let cache = &self.cache;
        let settings = [
            ("cache_ttl", cache.ttl.is_some()),
            ("cache_capacity", cache.capacity.is_some()),
            ("cache_bytes", cache.bytes.is_some()),
            ("negative_cache_ttl", cache.negative_ttl.is_some()),
            ("negative_cache_capacity", cache.negative_capacity.is_some()),
            ("denial_refresh_interval", cache.denial_interval.is_some()),
            ("refresh_ahead", cache.refresh_ahead.is_some()),
            ("serve_stale_on_error", cache.stale_for.is_some()),
            ("longest_hold", cache.longest_hold.is_some()),
            ("event_feed", self.feed.is_some()),
            ("shared", self.shared.is_some()),
        ];
        let made = settings.iter().find(|(_, is_made)| *is_made);
        match made {
            Some((field, _)) if cache.is_off => Err(no_effect(field, "beside `cache_off`")),
            _ => Ok(()),
        }
    }
}

fn no_effect(field: &'static str, why: &str) -> ConfigError {
    ConfigError::invalid(field, format!("has no effect {why}"), "leave one of them out")
}

fn check_duration(
    field: &'static str,
    value: Option<Duration>,
    ceiling: Duration,
) -> Result<(), ConfigError> {
    let Some(value) = value else { return Ok(()) };
    if value.is_zero() || value > ceiling {
        let problem = format!("{value:?} is not within 1 ms and {ceiling:?}");
        return Err(ConfigError::invalid(field, problem, "choose a duration within these bounds"));
    }
    Ok(())
}
