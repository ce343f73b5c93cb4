//! The environment files of systemd: `EnvironmentFile=` in systemd.exec(5).
//!
//! Quotes, escapes and comments count as in systemd. Variables are not expanded.

use super::variables::PREFIX;

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) value: String,
}

/// Where the parser is. The states are those of systemd, because their transitions are the definition of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BeforeName,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    SingleQuotes,
    DoubleQuotes,
    DoubleQuotesEscape,
    Comment,
    CommentEscape,
}

/// Reads a file. Skips what systemd ignores. The errors name the line, and never show what is there, as it can be a password.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Assignment>, String> {
    if let Some(position) = text.iter().position(|byte| *byte == 0) {
        return Err(format!("line {} contains a zero byte", line(text, position)));
    }
    let mut found = Vec::new();
    let mut current = Current::default();
    let mut state = State::BeforeName;
    for (position, &byte) in text.iter().enumerate() {
        let is_newline = matches!(byte, b'\n' | b'\r');
        let is_space = is_newline || matches!(byte, b' ' | b'\t');
        state = match state {
            State::BeforeName if matches!(byte, b'#' | b';') => State::Comment,
            State::BeforeName if is_space => state,
            State::BeforeName => {
                current = Current { begin: position, name: vec![byte], ..Current::default() };
                State::Name
            }
            State::Name if is_newline => State::BeforeName,
            State::Name if byte == b'=' => State::BeforeValue,
            State::Name => {
                current.name.push(byte);
                state
            }
            State::BeforeValue | State::Value if is_newline => {
                found.extend(current.end(text, position, state)?);
                State::BeforeName
            }
            State::BeforeValue if byte == b'\'' => State::SingleQuotes,
            State::BeforeValue if byte == b'"' => State::DoubleQuotes,
            State::BeforeValue if is_space => state,
            State::BeforeValue | State::Value if byte == b'\\' => State::ValueEscape,
            State::BeforeValue | State::Value => {
                current.push(byte, is_space);
                State::Value
            }
            State::ValueEscape => {
                if !is_newline {
                    current.push(byte, false);
                }
                State::Value
            }
            State::SingleQuotes if byte == b'\'' => State::BeforeValue,
            State::DoubleQuotes if byte == b'"' => State::BeforeValue,
            State::DoubleQuotes if byte == b'\\' => State::DoubleQuotesEscape,
            State::SingleQuotes | State::DoubleQuotes => {
                current.push(byte, false);
                state
            }
            State::DoubleQuotesEscape => {
                match byte {
                    b'\n' => {}
                    b'"' | b'\\' | b'`' | b'$' => current.push(byte, false),
                    _ => {
                        current.push(b'\\', false);
                        current.push(byte, false);
                    }
                }
                State::DoubleQuotes
            }
            State::Comment if byte == b'\\' => State::CommentEscape,
            // Before version 254, a backslash at its end continued a comment on the next line.
            State::Comment | State::CommentEscape if is_newline => State::BeforeName,
            State::Comment | State::CommentEscape => State::Comment,
        };
    }
    if !matches!(state, State::BeforeName | State::Name | State::Comment | State::CommentEscape) {
        found.extend(current.end(text, text.len(), state)?);
    }
    Ok(found)
}

/// The assignment that is being read.
#[derive(Debug, Default)]
struct Current {
    begin: usize,
    name: Vec<u8>,
    value: Vec<u8>,
    /// The length of the value without the spaces at its end, which count only in quotes.
    trimmed: usize,
}

impl Current {
    fn push(&mut self, byte: u8, is_space: bool) {
        self.value.push(byte);
        if !is_space {
            self.trimmed = self.value.len();
        }
    }

    /// Returns the assignment; `None` if systemd ignores its name.
    fn end(&mut self, text: &[u8], end: usize, state: State) -> Result<Option<Assignment>, String> {
        let Self { begin, name, value, trimmed } = std::mem::take(self);
        let first = line(text, begin);
        let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| format!("line {first} is not valid UTF-8"));
        let value = utf8(if state == State::Value { value[..trimmed].to_vec() } else { value })?;
        let name = utf8(name.trim_ascii_end().to_vec())?;
        if !is_name(&name) {
            return Ok(None);
        }
        // systemd accepts that. But then the rest of the file, such as a password, would be shown as the value of another setting.
        let raw = text[begin..end].split(|byte| *byte == b'\n').enumerate().skip(1);
        if name.starts_with(PREFIX)
            && let Some((number, _)) = raw.into_iter().find(|(_, line)| sets_variable(line))
        {
            return Err(format!(
                "the value of {name} in line {first} includes line {}, which sets another variable; close its quote or remove \
                 the backslash at its end",
                first + number
            ));
        }
        Ok(Some(Assignment { name, value }))
    }
}

/// Returns whether a line begins as an assignment does.
fn sets_variable(line: &[u8]) -> bool {
    let name = line.trim_ascii_start().split(|byte| *byte == b'=');
    let name = name.take(usize::from(line.contains(&b'='))).next();
    name.and_then(|name| std::str::from_utf8(name.trim_ascii_end()).ok()).is_some_and(is_name)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn line(text: &[u8], position: usize) -> usize {
    1 + text[..position].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &[u8]) -> Vec<(String, String)> {
        let found = parse(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        found.into_iter().map(|Assignment { name, value }| (name, value)).collect()
    }

    /// Each case is a file and the value that systemd gives the variable `A`; a test in `tests/machines` asks systemd.
    #[test]
    fn values_are_those_of_systemd() {
        let cases: Vec<(String, Option<String>)> =
            serde_json::from_str(include_str!("../../tests/environment_file.json")).expect("a table");
        assert!(cases.len() > 30);
        for (text, expected) in cases {
            let value = parsed(text.as_bytes()).into_iter().rfind(|(name, _)| name == "A").map(|(_, value)| value);
            assert_eq!(value, expected, "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_shows_nothing_of_it() {
        for (text, expected) in [
            (&b"A=1\nB=\xffsecret\n"[..], "line 2 is not valid UTF-8"),
            (b"A=1\n\xffsecret=1\n", "line 2 is not valid UTF-8"),
            (b"A=1\n\n#\0secret\n", "line 3 contains a zero byte"),
            (
                b"ETCD_AWAIT_ELECTION_CACERT='a\n\nDB_PASSWORD=secret\n'",
                "the value of ETCD_AWAIT_ELECTION_CACERT in line 1 includes line 3, which sets another variable",
            ),
            (
                b"#\nETCD_AWAIT_ELECTION_CACERT=a\\\n  ETCD_AWAIT_ELECTION_PASSWORD = secret",
                "the value of ETCD_AWAIT_ELECTION_CACERT in line 2 includes line 3, which sets another variable",
            ),
        ] {
            let error = parse(text).expect_err(expected);
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error}");
        }
        // A comment may be in any encoding, and a script for the command may set variables.
        assert_eq!(parsed(b"# \xff\nCOMMAND='sh\nB=1'").len(), 1);
        assert_eq!(parsed(b"ETCD_AWAIT_ELECTION_ENDPOINTS=http://a,\\\nhttp://b?x=1")[0].1, "http://a,http://b?x=1");
    }

    proptest! {
        /// No file makes it panic, and a value in single quotes is that value.
        #[test]
        fn any_file_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[ -~\\n\\t§]{0,40}") {
            let _ = parse(&bytes);
            let quoted = format!("A='{}'", text.replace('\'', "'\\''"));
            // After an escape the rest is not quoted any more.
            if !text.contains('\'') {
                prop_assert_eq!(parsed(quoted.as_bytes()), vec![("A".to_owned(), text)]);
            }
        }
    }
}
