//! Reads the task from a request: from the body (an urlencoded or multipart form, or JSON), else from the query.

use std::{convert::Infallible, future::ready};

use bytes::Bytes;
use futures_util::stream;
use multer::Multipart;
use percent_encoding::percent_decode;
use serde::Deserialize;

/// Why a request has no task to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTask {
    /// No task was sent, or an empty task.
    Empty,
    /// A form with a broken escape or part, or text that is not UTF-8.
    MalformedForm,
    /// Not a JSON object whose `task` is a string.
    MalformedJson,
    /// The task contains U+0000, which PostgreSQL cannot store.
    HasNul,
    /// The media type of the body is not supported.
    UnsupportedType,
}

enum Body {
    None,
    Form,
    Multipart { boundary: String },
    Json,
}

/// The first `task` of the body, else of the query, without white space around it.
///
/// # Errors
///
/// [`NoTask`] if there is no task to add.
pub async fn read_task(
    content_type: Option<&[u8]>,
    body: Bytes,
    query: Option<&str>,
) -> Result<String, NoTask> {
    let from_body = match Body::of(content_type, &body)? {
        Body::None => None,
        Body::Form => first_task(&body)?,
        Body::Multipart { boundary } => first_part(body, boundary).await?,
        Body::Json => member(&body)?,
    };
    let from_query = first_task(query.unwrap_or_default().as_bytes())?;
    trimmed(&from_body.or(from_query).unwrap_or_default())
}

/// A task without white space around it.
pub(crate) fn trimmed(task: &str) -> Result<String, NoTask> {
    match task.trim() {
        "" => Err(NoTask::Empty),
        trimmed if trimmed.contains('\0') => Err(NoTask::HasNul),
        trimmed => Ok(trimmed.to_owned()),
    }
}

impl Body {
    fn of(content_type: Option<&[u8]>, body: &[u8]) -> Result<Self, NoTask> {
        let Some(media_type) = content_type else {
            return if body.is_empty() { Ok(Self::None) } else { Err(NoTask::UnsupportedType) };
        };
        let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
        match essence.trim_ascii().to_ascii_lowercase().as_slice() {
            b"application/x-www-form-urlencoded" => Ok(Self::Form),
            b"application/json" => Ok(Self::Json),
            b"multipart/form-data" => {
                let boundary =
                    str::from_utf8(media_type).ok().and_then(|text| multer::parse_boundary(text).ok());
                boundary.map(|boundary| Self::Multipart { boundary }).ok_or(NoTask::MalformedForm)
            }
            _ => Err(NoTask::UnsupportedType),
        }
    }
}

/// Reads all parts, so that a malformed part is found at any position. A part with a file name is ignored.
async fn first_part(body: Bytes, boundary: String) -> Result<Option<String>, NoTask> {
    let mut parts = Multipart::new(stream::once(ready(Ok::<_, Infallible>(body))), boundary);
    let mut task = None;
    while let Some(part) = parts.next_field().await.map_err(|_| NoTask::MalformedForm)? {
        let is_task = part.name() == Some("task") && part.file_name().is_none();
        let value = part.bytes().await.map_err(|_| NoTask::MalformedForm)?;
        if is_task && task.is_none() {
            task = Some(String::from_utf8(value.into()).map_err(|_| NoTask::MalformedForm)?);
        }
    }
    Ok(task)
}

fn member(body: &[u8]) -> Result<Option<String>, NoTask> {
    #[derive(Deserialize)]
    struct Document {
        task: Option<String>,
    }

    // serde structs also deserialize from arrays.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(NoTask::MalformedJson);
    }
    let document: Document = serde_json::from_slice(body).map_err(|_| NoTask::MalformedJson)?;
    Ok(document.task)
}

/// Reads all fields, so that a malformed field is found at any position.
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
        return Err(NoTask::MalformedForm);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map_err(|_| NoTask::MalformedForm)
}

#[cfg(test)]
mod tests {
    use form_urlencoded::byte_serialize;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const FORM: Option<&[u8]> = Some(b"application/x-www-form-urlencoded");
    const JSON: Option<&[u8]> = Some(b"application/json");
    const MULTIPART: Option<&[u8]> = Some(b"multipart/form-data; boundary=xxx");

    fn read(content_type: Option<&[u8]>, body: &[u8], query: Option<&str>) -> Result<String, NoTask> {
        read_task(content_type, Bytes::copy_from_slice(body), query)
            .now_or_never()
            .expect("nothing is awaited")
    }

    fn parts(parts: &[(&str, &str)]) -> String {
        let part = |(head, value): &(&str, &str)| {
            format!("--xxx\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
        };
        parts.iter().map(part).collect::<String>() + "--xxx--\r\n"
    }

    #[test]
    fn the_body_comes_before_the_query_and_the_first_task_counts() {
        let form = |body: &str, query| read(FORM, body.as_bytes(), query);
        assert_eq!(form("task=My+new%20task", None).unwrap(), "My new task");
        assert_eq!(form("task=a&task=b", Some("task=c")).unwrap(), "a");
        assert_eq!(form("other=1", Some("task=c")).unwrap(), "c");
        assert_eq!(form("task=", Some("task=c")), Err(NoTask::Empty));
        assert_eq!(form("%74ask=a", None).unwrap(), "a");
        assert_eq!(form("Task=a", None), Err(NoTask::Empty));
        assert_eq!(form("task=%20%0A%C2%A0", None), Err(NoTask::Empty));
        assert_eq!(read(None, b"", Some("task=c")).unwrap(), "c");
        assert_eq!(read(None, b"", None), Err(NoTask::Empty));
    }

    #[test]
    fn broken_escapes_and_other_types_are_refused() {
        for broken in ["task=%", "task=%4", "task=%zz", "task=%ff", "task=a&x=%c3%28", "%ff=1", "task=%C3"] {
            assert_eq!(read(FORM, broken.as_bytes(), None), Err(NoTask::MalformedForm), "{broken}");
            assert_eq!(read(None, b"", Some(broken)), Err(NoTask::MalformedForm), "{broken}");
        }
        for other in ["application/jsonx", "text/plain", "", "application/x-www-form-urlencodedx"] {
            let refused = read(Some(other.as_bytes()), b"task=a", None);
            assert_eq!(refused, Err(NoTask::UnsupportedType), "{other}");
        }
        assert_eq!(read(None, b"task=a", None), Err(NoTask::UnsupportedType));
        let with_charset = b"Application/X-WWW-Form-Urlencoded ; charset=utf-8".as_slice();
        assert_eq!(read(Some(with_charset), b"task=a", None).unwrap(), "a");
    }

    #[test]
    fn a_multipart_form_is_read_like_the_other() {
        let form = |body: &str, query| read(MULTIPART, body.as_bytes(), query);
        let task = ("name=\"task\"", " My new task\n");
        assert_eq!(form(&parts(&[task]), Some("task=c")).unwrap(), "My new task");
        assert_eq!(
            form(&parts(&[("name=\"other\"", "x"), task, ("name=task", "b")]), None).unwrap(),
            "My new task"
        );
        assert_eq!(form(&parts(&[("name=\"other\"", "x")]), Some("task=c")).unwrap(), "c");
        assert_eq!(form(&parts(&[]), None), Err(NoTask::Empty));
        assert_eq!(form(&parts(&[("name=task; filename=\"a.txt\"", "x")]), None), Err(NoTask::Empty));
        for broken in ["", "task=a", "--xxx\r\n", &parts(&[task])[..40]] {
            assert_eq!(form(broken, None), Err(NoTask::MalformedForm), "{broken:?}");
        }
        let text = parts(&[("name=task", "?")]);
        let not_text: Vec<_> = text.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
        assert_eq!(read(MULTIPART, &not_text, None), Err(NoTask::MalformedForm));
        assert_eq!(read(Some(b"multipart/form-data"), b"", None), Err(NoTask::MalformedForm));
        assert_eq!(read(Some(b"multipart/mixed; boundary=xxx"), b"", None), Err(NoTask::UnsupportedType));
    }

    #[test]
    fn a_json_object_is_read_like_a_form() {
        let json = |body: &str, query| read(JSON, body.as_bytes(), query);
        assert_eq!(json(r#"{"task": " My new task "}"#, Some("task=c")).unwrap(), "My new task");
        assert_eq!(json(r#"{"other": 1}"#, Some("task=c")).unwrap(), "c");
        assert_eq!(json(r#"{"task": ""}"#, Some("task=c")), Err(NoTask::Empty));
        assert_eq!(json("{}", None), Err(NoTask::Empty));
        for broken in [
            "",
            "[]",
            r#"["a task"]"#,
            "\"task\"",
            r#"{"task": 1}"#,
            r#"{"task":"a"} x"#,
            r#"{"task":"\ud800"}"#,
        ] {
            assert_eq!(json(broken, Some("task=c")), Err(NoTask::MalformedJson), "{broken}");
        }
        assert_eq!(json(r#"{"task":"a","task":"b"}"#, None), Err(NoTask::MalformedJson), "which one?");
        assert_eq!(read(JSON, b"{\"task\":\"\xff\"}", None), Err(NoTask::MalformedJson));
    }

    #[test]
    fn a_nul_is_refused_wherever_it_comes_from() {
        assert_eq!(read(FORM, b"task=a%00b", None), Err(NoTask::HasNul));
        assert_eq!(read(JSON, br#"{"task":"\u0000"}"#, None), Err(NoTask::HasNul));
        assert_eq!(read(MULTIPART, parts(&[("name=task", "\0")]).as_bytes(), None), Err(NoTask::HasNul));
        assert_eq!(read(None, b"", Some("task=%00")), Err(NoTask::HasNul));
    }

    proptest! {
        #[test]
        fn any_text_survives(task in any::<String>()) {
            let expected = match task.trim() {
                "" => Err(NoTask::Empty),
                trimmed if trimmed.contains('\0') => Err(NoTask::HasNul),
                trimmed => Ok(trimmed.to_owned()),
            };
            let form = format!("x=1&task={}", byte_serialize(task.as_bytes()).collect::<String>());
            prop_assert_eq!(read(FORM, form.as_bytes(), None), expected.clone());
            let json = serde_json::json!({ "task": task }).to_string();
            prop_assert_eq!(read(JSON, json.as_bytes(), None), expected.clone());
            prop_assume!(!task.contains("--xxx"));
            let multipart = parts(&[("name=\"task\"", &task)]);
            prop_assert_eq!(read(MULTIPART, multipart.as_bytes(), None), expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            for content_type in [FORM, JSON, MULTIPART] {
                let _ = read(content_type, &body, None);
            }
            let _ = read(MULTIPART, &[b"--xxx\r\n", body.as_slice()].concat(), None);
        }
    }
}
