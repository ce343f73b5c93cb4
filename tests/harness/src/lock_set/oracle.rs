//! The oracle: it compares the records of the commands with what is in a register.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs, io,
    path::Path,
    str::FromStr,
};

use super::register::{Mode, Register, Removal};

/// One line of the records, which a command wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) element: String,
    pub(crate) mode: Mode,
    pub(crate) step: Step,
}

/// What a command knows about an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// It is about to write: the register may or may not have the element afterwards.
    Attempted,
    /// The register has refused the token.
    Refused,
    /// The register has written.
    Confirmed,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Attempted => "attempted",
            Step::Refused => "refused",
            Step::Confirmed => "confirmed",
        };
        writeln!(f, "{} {} {step}", self.element, self.mode.name())
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parse = || {
            let mut words = line.split(' ');
            let element = words.next()?.to_owned();
            let mode = Mode::named(words.next()?)?;
            let step = match words.next()? {
                "attempted" => Step::Attempted,
                "refused" => Step::Refused,
                "confirmed" => Step::Confirmed,
                _ => return None,
            };
            Some(Self { element, mode, step })
        };
        parse().ok_or_else(|| format!("not a record: {line:?}"))
    }
}

impl Record {
    pub(crate) fn read(path: &Path) -> io::Result<Vec<Self>> {
        let text = fs::read_to_string(path)?;
        // A line that is being written is left to the next reader.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| line.parse().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))).collect()
    }
}

/// The verdict on the additions to one register.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The number of confirmed additions.
    pub confirmed: usize,
    /// The number of refused requests.
    pub refused: usize,
    /// Confirmed additions that are missing.
    pub lost: Vec<Loss>,
    /// Elements of the set that no command has added.
    pub unexpected: Vec<String>,
}

/// A lost update: the register confirmed an addition, and does not have the element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The element.
    pub element: String,
    /// The write that removed it.
    pub removal: Option<Removal>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.removal {
            Some(Removal { by, of }) => {
                write!(f, "{}, written with token {of}, was removed by a write with token {by}", self.element)
            }
            None => write!(f, "{} was never written", self.element),
        }
    }
}

impl Verdict {
    pub(crate) fn of(mode: Mode, records: &[Record], register: &Register) -> Self {
        let mut steps: BTreeMap<&str, Step> = BTreeMap::new();
        for record in records.iter().filter(|record| record.mode == mode) {
            let step = steps.entry(&record.element).or_insert(record.step);
            *step = record.step.max(*step);
        }
        let set: HashSet<&str> = register.value.split_whitespace().collect();
        let confirmed = steps.iter().filter(|(_, step)| **step == Step::Confirmed).map(|(element, _)| *element);
        let missing = confirmed.clone().filter(|element| !set.contains(element));
        let removal = |element: &str| register.removals.get(element).copied();
        let lost = missing.map(|element| Loss { element: element.to_owned(), removal: removal(element) });
        let is_expected = |element: &str| steps.get(element).is_some_and(|step| *step != Step::Refused);
        Self {
            confirmed: confirmed.clone().count(),
            refused: register.refused,
            lost: lost.collect(),
            unexpected: set.iter().filter(|element| !is_expected(element)).map(|&element| element.to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<Record> {
        text.lines().map(|line| line.trim().parse().expect("a record")).collect()
    }

    const BOTH: &str = "5.1 plain attempted\n5.1 plain confirmed\n7.1 plain attempted\n7.1 plain confirmed";

    #[test]
    fn additions_one_after_the_other_are_all_found() {
        let mut register = Register::new(Mode::Plain);
        register.write(5, "5.1 ".into());
        register.write(7, "5.1 7.1 ".into());
        let verdict = Verdict::of(Mode::Plain, &records(BOTH), &register);
        assert_eq!((verdict.confirmed, verdict.lost.len(), verdict.unexpected.len()), (2, 0, 0));
    }

    #[test]
    fn a_lost_update_is_found_with_the_write_that_removed_it() {
        let mut register = Register::new(Mode::Plain);
        register.write(5, "5.1 ".into());
        register.write(7, "7.1 ".into());
        let verdict = Verdict::of(Mode::Plain, &records(BOTH), &register);
        assert_eq!(verdict.lost, [Loss { element: "5.1".into(), removal: Some(Removal { by: 7, of: 5 }) }]);
    }

    /// A command that was killed before it had the answer.
    #[test]
    fn an_addition_without_an_answer_may_be_missing_or_not() {
        let attempts = records("5.1 plain attempted\n5.2 plain attempted");
        let mut register = Register::new(Mode::Plain);
        register.write(5, "5.1 ".into());
        let verdict = Verdict::of(Mode::Plain, &attempts, &register);
        assert_eq!((verdict.confirmed, verdict.lost.len(), verdict.unexpected.len()), (0, 0, 0));
    }

    #[test]
    fn an_element_that_nobody_added_or_that_was_refused_is_found() {
        let mut register = Register::new(Mode::Fenced);
        register.write(5, "5.1 5.2 ".into());
        let verdict = Verdict::of(Mode::Fenced, &records("5.1 fenced attempted\n5.1 fenced refused"), &register);
        assert_eq!(verdict.unexpected.len(), 2, "{verdict:?}");
    }

    #[test]
    fn the_registers_are_judged_separately() {
        let confirmed = records("5.1 fenced attempted\n5.1 fenced confirmed");
        let register = Register::new(Mode::Plain);
        assert_eq!(Verdict::of(Mode::Plain, &confirmed, &register).confirmed, 0);
    }

    #[test]
    fn records_are_read_back_unchanged() {
        for (mode, step) in [(Mode::Plain, Step::Attempted), (Mode::Fenced, Step::Confirmed)] {
            let record = Record { element: "5.1".into(), mode, step };
            assert_eq!(record.to_string().trim_end().parse(), Ok(record));
        }
        assert!("5.1 plain".parse::<Record>().is_err());
    }
}
