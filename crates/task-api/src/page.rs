//! Reads from the query which part of the list is requested.

use form_urlencoded::parse;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// A part of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// The maximum number of tasks.
    pub(crate) limit: u32,
    /// The page starts after this position; 0 for the first page.
    pub(crate) after: i64,
}

/// Why the query asks for an invalid page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    #[error("limit must be a number from 1 to 1000")]
    Limit,
    #[error("after must be a position from a Link header")]
    After,
}

impl Page {
    /// `None` if the query does not ask for a page.
    pub(crate) fn of(query: Option<&str>) -> Result<Option<Self>, PageError> {
        let (mut limit, mut after) = (None, None);
        for (name, value) in parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "limit" if limit.is_none() => {
                    let number = digits(&value).filter(|number| (1..=i64::from(MAX_LIMIT)).contains(number));
                    limit =
                        Some(number.and_then(|number| u32::try_from(number).ok()).ok_or(PageError::Limit)?);
                }
                "limit" => return Err(PageError::Limit),
                "after" if after.is_none() => after = Some(digits(&value).ok_or(PageError::After)?),
                "after" => return Err(PageError::After),
                _ => {}
            }
        }
        if limit.is_none() && after.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), after: after.unwrap_or_default() }))
    }

    /// The value of `Link` (RFC 8288) that leads to the next page.
    pub(crate) fn next(&self, last: i64) -> String {
        format!("</api/tasks?limit={}&after={last}>; rel=\"next\"", self.limit)
    }
}

fn digits(value: &str) -> Option<i64> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_what_the_query_says() {
        let page = |limit, after| Ok(Some(Page { limit, after }));
        for (query, expected) in [
            (None, Ok(None)),
            (Some(""), Ok(None)),
            (Some("task=x"), Ok(None)),
            (Some("limit=1"), page(1, 0)),
            (Some("limit=1000&after=7"), page(1000, 7)),
            (Some("after=9223372036854775807"), page(100, i64::MAX)),
            (Some("x=y&l%69mit=%35"), page(5, 0)),
            (Some("limit=0"), Err(PageError::Limit)),
            (Some("limit=1001"), Err(PageError::Limit)),
            (Some("limit="), Err(PageError::Limit)),
            (Some("limit=+5"), Err(PageError::Limit)),
            (Some("limit=1&limit=1"), Err(PageError::Limit)),
            (Some("after=-1"), Err(PageError::After)),
            (Some("after=x"), Err(PageError::After)),
            (Some("after=9223372036854775808"), Err(PageError::After)),
            (Some("after=1&after=2"), Err(PageError::After)),
        ] {
            assert_eq!(Page::of(query), expected, "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_within_the_bounds(query in ".{0,40}") {
            if let Ok(Some(page)) = Page::of(Some(&query)) {
                prop_assert!((1..=MAX_LIMIT).contains(&page.limit) && page.after >= 0);
            }
        }
    }
}
