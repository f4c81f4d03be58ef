//! Form parameters of body and query, as Go's `ParseForm` merges them: the body first.

pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// `None` if a percent-escape is malformed.
    pub(crate) fn read(body: Option<&str>, query: Option<&str>) -> Option<Self> {
        let sources = [body.unwrap_or_default(), query.unwrap_or_default()];
        if !sources.iter().all(|source| escapes_are_whole(source)) {
            return None;
        }
        let pairs = sources.iter().flat_map(|source| form_urlencoded::parse(source.as_bytes()));
        Some(Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }

    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

/// Undoes form-urlencoding of a single value.
pub(crate) fn unescape(text: &str) -> Option<String> {
    if !escapes_are_whole(text) {
        return None;
    }
    // `form_urlencoded` reads pairs: use a pair without a name, and take its value.
    let pair = format!("={}", text.replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
}

fn escapes_are_whole(text: &str) -> bool {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte != b'%' || (is_hex(bytes.get(at + 1)) && is_hex(bytes.get(at + 2))))
}
