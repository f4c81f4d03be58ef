//! An error with all that caused it, in one line: for logs and consoles.

use std::{error::Error, iter::successors};

/// The error and its causes, joined by colons.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in successors(Some(error), |cause| (*cause).source()) {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}
