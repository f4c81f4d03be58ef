//! Ends of secrets. Each is moved by a chance of its own, so that a secret whose answer was lost is found again by its end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much sooner a secret may end than asked for.
const SPREAD: Duration = Duration::from_secs(3600);
/// The end of a key without an end, as ZITADEL's Console sets it: 9999-12-31.
const NEVER: Duration = Duration::from_secs(253_402_300_799);

/// When a new secret ends: after this time, or never. Up to one hour sooner, to the millisecond.
pub(crate) fn end(lifetime: Option<Duration>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = lifetime.map_or(NEVER, |lifetime| now.saturating_add(lifetime).min(NEVER));
    let spread = SPREAD.min(lifetime.unwrap_or(SPREAD) / 10);
    let sooner = Duration::from_millis(random() % u64::try_from(spread.as_millis()).unwrap_or(1).max(1));
    let end =
        Duration::from_millis(u64::try_from(end.saturating_sub(sooner).as_millis()).unwrap_or(u64::MAX));
    humantime::format_rfc3339_millis(UNIX_EPOCH + end).to_string()
}

/// Whether two texts mean the same time: ZITADEL leaves out the zeros at the end of a fraction.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let read = |text: &str| humantime::parse_rfc3339(text).ok();
    matches!((read(one), read(other)), (Some(one), Some(other)) if one == other)
}

/// Whether this time is over.
pub(crate) fn is_over(end: &str) -> bool {
    humantime::parse_rfc3339(end).is_ok_and(|end| end <= SystemTime::now())
}

pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes two ends may be alike; then a lost secret stays until it ends.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_at_most_an_hour_sooner() {
        let read = |text: &str| humantime::parse_rfc3339(text).unwrap();
        let day = Duration::from_secs(86_400);
        for _ in 0..1000 {
            let end = read(&end(Some(day))).duration_since(SystemTime::now()).unwrap();
            assert!(end <= day && end + SPREAD + Duration::from_secs(5) > day, "{end:?}");
        }
        let ends: std::collections::BTreeSet<_> = (0..100).map(|_| end(None)).collect();
        assert!(ends.len() > 90 && ends.iter().all(|end| end.starts_with("9999-12-31T2")), "{ends:?}");
    }

    #[test]
    fn ends_are_compared_as_times() {
        assert!(is_same("2099-01-01T00:00:00.500Z", "2099-01-01T00:00:00.5Z"));
        assert!(is_same("2099-01-01T00:00:00Z", "2099-01-01T00:00:00.000Z"));
        assert!(!is_same("2099-01-01T00:00:00Z", "2099-01-01T00:00:00.001Z"));
        assert!(!is_same("", ""));
        assert!(is_over("2020-01-01T00:00:00Z") && !is_over("2099-01-01T00:00:00Z"));
    }
}
