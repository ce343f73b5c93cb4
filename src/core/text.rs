//! Escapes text from outside before it is shown.
//!
//! Identities come from any client that may write to the lock, and error messages from any server that answers. In a terminal, a
//! log or a status page they must not move the cursor, start a new line, or change the order of the text beside them. Text is
//! escaped where it is shown, and compared unescaped.

use std::{borrow::Cow, fmt::Write as _};

/// Returns whether a character changes the text around it or is invisible: control characters, line and paragraph separators,
/// bidirectional controls, and characters without width.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns `text` as one line of visible characters; the others are written as `\n` or `\u{202e}`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |escaped, c| escaped.extend(c.escape_default()))
}

/// Escapes the strings of a JSON document with JSON escapes, so that its values do not change.
#[must_use]
pub fn escaped_json(document: &str) -> Cow<'_, str> {
    // Outside of strings there are only ASCII characters, and control characters in strings are escaped already.
    replaced(document, |escaped, c| {
        if c.is_ascii() && c != '\u{7f}' {
            return escaped.push(c);
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing into a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

/// Returns at most `most` characters of `text`, and `…` if there are more.
#[must_use]
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((cut, _)) => format!("{}…", &text[..cut]).into(),
        None => text.into(),
    }
}

/// Returns the beginning of a value from the command line or the environment, escaped, for an error message.
#[must_use]
pub fn excerpt(value: &str) -> String {
    escaped(&shortened(value, 120)).into_owned()
}

fn replaced(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.chars().any(needs_escape) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if needs_escape(c) { escape(&mut escaped, c) } else { escaped.push(c) }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_is_escaped_and_what_is_read_is_not() {
        for text in ["node-1", "späť \"quoted\" \\ 節点-1 🙂", "عربي", ""] {
            assert_eq!(escaped(text), text);
            assert_eq!(escaped_json(text), text);
        }
        for (text, shown) in [
            ("a\nREADY=1", "a\\nREADY=1"),
            ("\r\t\0", "\\r\\t\\u{0}"),
            ("\u{1b}[2J\u{7f}", "\\u{1b}[2J\\u{7f}"),
            ("\u{9b}2J\u{85}", "\\u{9b}2J\\u{85}"),
            ("a\u{202e}b\u{2066}c\u{200f}d\u{61c}", "a\\u{202e}b\\u{2066}c\\u{200f}d\\u{61c}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("a\u{200b}b\u{feff}c\u{e0041}", "a\\u{200b}b\\u{feff}c\\u{e0041}"),
        ] {
            assert_eq!(escaped(text), shown, "{text:?}");
            assert_eq!(escaped(&escaped(text)), shown, "once is enough");
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("节点-1", 4), "节点-1");
        assert_eq!(shortened("节点-1", 3), "节点-…");
    }

    proptest! {
        #[test]
        fn json_is_the_same_document(text in any::<String>(), mark in "[\u{7f}\u{9b}\u{202e}\u{2028}\u{200b}\u{e0041}]") {
            let value = serde_json::json!({ "text": [text, mark] });
            let document = escaped_json(&value.to_string()).into_owned();
            prop_assert!(!document.chars().any(needs_escape), "{}", document);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&document).expect("JSON"), value);
        }

        #[test]
        fn escaped_text_is_one_line_that_does_nothing(text in any::<String>()) {
            let shown = escaped(&text);
            prop_assert!(!shown.chars().any(needs_escape), "{}", shown);
        }
    }
}
