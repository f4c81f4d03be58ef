//! Reads the task out of a request: from an urlencoded body, else from the query.

use percent_encoding::percent_decode;

/// Why a request has no task to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTask {
    /// None was sent, or an empty one.
    Empty,
    /// An escape is broken, or what it stands for is not UTF-8.
    Malformed,
    /// The body is of a type that is not read.
    UnsupportedType,
}

/// The first `task` of the body, else of the query, without white space around it.
///
/// # Errors
///
/// [`NoTask`] where there is none.
pub fn read_task(content_type: Option<&[u8]>, body: &[u8], query: Option<&str>) -> Result<String, NoTask> {
    let from_body = match content_type {
        Some(media_type) if is_form(media_type) => first_task(body)?,
        None if body.is_empty() => None,
        _ => return Err(NoTask::UnsupportedType),
    };
    let from_query = first_task(query.unwrap_or_default().as_bytes())?;
    let task = from_body.or(from_query).unwrap_or_default();
    match task.trim() {
        "" => Err(NoTask::Empty),
        trimmed => Ok(trimmed.to_owned()),
    }
}

fn is_form(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Reads all fields, so that a broken one is noticed wherever it stands.
fn first_task(form: &[u8]) -> Result<Option<String>, NoTask> {
    let mut task = None;
    for field in form.split(|byte| *byte == b'&') {
        let mut halves = field.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        if name == "task" && task.is_none() {
            task = Some(value);
        }
    }
    Ok(task)
}

fn decode(text: &[u8]) -> Result<String, NoTask> {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let is_whole =
        |(at, byte): (usize, &u8)| *byte != b'%' || (is_hex(text.get(at + 1)) && is_hex(text.get(at + 2)));
    if !text.iter().enumerate().all(is_whole) {
        return Err(NoTask::Malformed);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map_err(|_| NoTask::Malformed)
}

#[cfg(test)]
mod tests {
    use form_urlencoded::byte_serialize;
    use proptest::prelude::*;

    use super::*;

    const FORM: Option<&[u8]> = Some(b"application/x-www-form-urlencoded");

    #[test]
    fn the_body_comes_before_the_query_and_the_first_task_counts() {
        let read = |body: &str, query| read_task(FORM, body.as_bytes(), query);
        assert_eq!(read("task=My+new%20task", None).unwrap(), "My new task");
        assert_eq!(read("task=a&task=b", Some("task=c")).unwrap(), "a");
        assert_eq!(read("other=1", Some("task=c")).unwrap(), "c");
        assert_eq!(read("task=", Some("task=c")), Err(NoTask::Empty));
        assert_eq!(read("%74ask=a", None).unwrap(), "a");
        assert_eq!(read("Task=a", None), Err(NoTask::Empty));
        assert_eq!(read("task=%20%0A%C2%A0", None), Err(NoTask::Empty));
        assert_eq!(read_task(None, b"", Some("task=c")).unwrap(), "c");
        assert_eq!(read_task(None, b"", None), Err(NoTask::Empty));
    }

    #[test]
    fn broken_escapes_and_other_types_are_refused() {
        for broken in ["task=%", "task=%4", "task=%zz", "task=%ff", "task=a&x=%c3%28", "%ff=1", "task=%C3"] {
            assert_eq!(read_task(FORM, broken.as_bytes(), None), Err(NoTask::Malformed), "{broken}");
            assert_eq!(read_task(None, b"", Some(broken)), Err(NoTask::Malformed), "{broken}");
        }
        for other in ["application/json", "text/plain", "", "application/x-www-form-urlencodedx"] {
            let read = read_task(Some(other.as_bytes()), b"task=a", None);
            assert_eq!(read, Err(NoTask::UnsupportedType), "{other}");
        }
        assert_eq!(read_task(None, b"task=a", None), Err(NoTask::UnsupportedType));
        let with_charset = b"Application/X-WWW-Form-Urlencoded ; charset=utf-8".as_slice();
        assert_eq!(read_task(Some(with_charset), b"task=a", None).unwrap(), "a");
    }

    proptest! {
        #[test]
        fn any_text_survives(task in any::<String>()) {
            let body = format!("x=1&task={}", byte_serialize(task.as_bytes()).collect::<String>());
            let expected = match task.trim() {
                "" => Err(NoTask::Empty),
                trimmed => Ok(trimmed.to_owned()),
            };
            prop_assert_eq!(read_task(FORM, body.as_bytes(), None), expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_task(FORM, &body, None);
        }
    }
}
