//! Text from outside, made fit to be shown.
//!
//! Anybody with rights on the lock writes identities into etcd, and whatever answers at an endpoint writes messages. On a
//! terminal, in a log, in the journal or on a status page they must not move the cursor, begin a line of their own, or turn
//! the order of what stands beside them. So what is shown is escaped where it is shown; what is compared is not.

use std::{borrow::Cow, fmt::Write as _};

/// Whether a character does something to the text around it, or cannot be seen: control characters, line and paragraph
/// separators, bidirectional controls, and what has no width.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` on one line of visible characters; the others are written as `\n` or `\u{202e}`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |escaped, c| escaped.extend(c.escape_default()))
}

/// The same for a JSON document, which stays the same document: JSON has escapes of its own.
#[must_use]
pub fn escaped_json(document: &str) -> Cow<'_, str> {
    // Outside of strings there are only ASCII characters, and those in strings that are controls are escaped already.
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

/// The beginning of `text`: at most so many characters, and a mark where there were more.
#[must_use]
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((cut, _)) => format!("{}…", &text[..cut]).into(),
        None => text.into(),
    }
}

/// The beginning of a value from the command line or the environment, on one line, for an error.
#[must_use]
pub fn excerpt(value: &str) -> String {
    escaped(&shortened(value, 120)).into_owned()
}

fn replaced(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) { escape(&mut escaped, c) } else { escaped.push(c) }
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
    fn what_is_long_is_cut_between_characters() {
        assert_eq!(shortened("节点-1", 4), "节点-1");
        assert_eq!(shortened("节点-1", 3), "节点-…");
    }

    proptest! {
        #[test]
        fn json_is_the_same_document(text in any::<String>(), mark in "[\u{7f}\u{9b}\u{202e}\u{2028}\u{200b}\u{e0041}]") {
            let value = serde_json::json!({ "text": [text, mark] });
            let document = escaped_json(&value.to_string()).into_owned();
            prop_assert!(!document.chars().any(acts), "{}", document);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&document).expect("JSON"), value);
        }

        #[test]
        fn escaped_text_is_one_line_that_does_nothing(text in any::<String>()) {
            let shown = escaped(&text);
            prop_assert!(!shown.chars().any(acts), "{}", shown);
        }
    }
}
