//! A register: its value is read and written as a whole.

use std::collections::{HashMap, HashSet};

/// Whether a register has a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It accepts every request.
    Plain,
    /// It refuses requests with a smaller token than the largest it has seen.
    Fenced,
}

impl Mode {
    /// Both modes, in the order in which a command uses the registers.
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Fenced];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fenced => "fenced",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// A register whose value is a set: words, each followed by a space.
#[derive(Debug)]
pub(crate) struct Register {
    mode: Mode,
    /// The largest token that it has seen.
    newest: i64,
    pub(crate) value: String,
    /// The token of the write that last put each element into the set.
    writers: HashMap<String, i64>,
    /// The last removal of each element.
    pub(crate) removals: HashMap<String, Removal>,
    pub(crate) refused: usize,
}

/// A write that removed an element. The element was put into the set after the read on which this write is based, so the
/// two writes are of terms that overlapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The token of the write.
    pub by: i64,
    /// The token of the write that had put the element into the set: not always that of the command which added it, as
    /// another late write may have restored it.
    pub of: i64,
}

impl Register {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, newest: 0, value: String::new(), writers: HashMap::new(), removals: HashMap::new(), refused: 0 }
    }

    /// Returns the value, or `None` if the token is refused.
    ///
    /// A read makes its token known, too. Otherwise an old leader could still write between the read and the write of a
    /// new leader, and the write of the new leader would remove that confirmed addition.
    pub(crate) fn read(&mut self, token: i64) -> Option<&str> {
        self.admits(token).then_some(self.value.as_str())
    }

    /// Replaces the value, or returns `None` if the token is refused.
    pub(crate) fn write(&mut self, token: i64, value: String) -> Option<()> {
        if !self.admits(token) {
            return None;
        }
        // Every element is followed by a space, so a value that begins with the old one has all its elements.
        if let Some(added) = value.strip_prefix(&self.value) {
            self.writers.extend(added.split_whitespace().map(|element| (element.to_owned(), token)));
        } else {
            self.compare(&value, token);
        }
        self.value = value;
        Some(())
    }

    /// Notes which elements the new value removes, and which it adds.
    fn compare(&mut self, value: &str, token: i64) {
        let [old, new] = [&self.value, value].map(|set| set.split_whitespace().collect::<HashSet<_>>());
        for &element in old.difference(&new) {
            let of = self.writers.get(element).copied().unwrap_or(0);
            self.removals.insert(element.to_owned(), Removal { by: token, of });
        }
        self.writers.extend(new.difference(&old).map(|&element| (element.to_owned(), token)));
    }

    fn admits(&mut self, token: i64) -> bool {
        if self.mode == Mode::Plain {
            return true;
        }
        let admitted = token >= self.newest;
        self.newest = self.newest.max(token);
        self.refused += usize::from(!admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leader with token 5 is frozen between its read and its write; the leader with token 7 adds meanwhile.
    fn late_write(mode: Mode) -> (Register, Option<()>) {
        let mut register = Register::new(mode);
        let old = register.read(5).expect("the first request").to_owned();
        let new = register.read(7).expect("a larger token").to_owned();
        register.write(7, new + "7.1 ").expect("the largest token");
        let written = register.write(5, old + "5.1 ");
        (register, written)
    }

    #[test]
    fn a_late_write_removes_elements_from_the_plain_register() {
        let (register, written) = late_write(Mode::Plain);
        assert!(written.is_some());
        assert_eq!(register.value, "5.1 ");
        assert_eq!(register.removals, [("7.1".to_owned(), Removal { by: 5, of: 7 })].into());
    }

    #[test]
    fn the_fenced_register_refuses_a_late_write() {
        let (register, written) = late_write(Mode::Fenced);
        assert!(written.is_none());
        assert_eq!((register.value.as_str(), register.refused), ("7.1 ", 1));
        assert!(register.removals.is_empty());
    }

    /// If only writes made a token known, this write would be accepted, and the next write of the new leader would
    /// remove its element.
    #[test]
    fn a_read_is_enough_to_refuse_older_tokens() {
        let mut register = Register::new(Mode::Fenced);
        assert_eq!(register.read(5), Some(""));
        assert_eq!(register.read(7), Some(""));
        assert_eq!(register.write(5, "5.1 ".into()), None);
        assert_eq!(register.read(5), None);
        assert_eq!(register.write(7, "7.1 ".into()), Some(()));
    }

    /// The terms 5 and 9 are frozen, and their late writes meet the elements of the terms 7 and 11.
    #[test]
    fn a_removal_names_the_late_write_that_had_restored_the_element() {
        let mut register = Register::new(Mode::Plain);
        register.write(7, "7.1 ".into());
        register.write(5, "5.1 ".into());
        register.write(9, "7.1 9.1 ".into());
        register.write(11, "5.1 11.1 ".into());
        assert_eq!(register.removals["7.1"], Removal { by: 11, of: 9 });
    }

    #[test]
    fn an_element_is_not_mistaken_for_the_beginning_of_another_one() {
        let mut register = Register::new(Mode::Plain);
        register.write(5, "5.1 ".into());
        register.write(5, "5.10 ".into());
        assert_eq!(register.removals, [("5.1".to_owned(), Removal { by: 5, of: 5 })].into());
    }
}
