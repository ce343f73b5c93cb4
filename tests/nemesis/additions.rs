//! The verdict on the set to which the commands add: `harness::LockSet`.

use std::collections::BTreeSet;

use harness::{LockSet, Loss, Mode, Removal, Verdict};

use super::plan::Scope;

/// The number of lost updates that a message lists.
const LISTED: usize = 5;

/// The verdict on both registers.
#[derive(Clone, Debug)]
pub(crate) struct Additions {
    plain: Verdict,
    fenced: Verdict,
}

impl Additions {
    pub(crate) fn of(set: &LockSet) -> Self {
        Self { plain: set.verdict(Mode::Plain), fenced: set.verdict(Mode::Fenced) }
    }

    /// Returns what must not have happened; `victims` are the tokens of the terms with faults that the guarantee does
    /// not cover. Only such a term may lose an update or cause that one is lost, and only without fencing.
    pub(crate) fn broken(&self, victims: &BTreeSet<i64>) -> Vec<String> {
        let mut broken = Vec::new();
        let beyond = |loss: &&Loss| victim(loss, victims).is_some();
        let plain = self.plain.lost.iter().filter(|loss| !beyond(loss)).collect();
        for (name, verdict, lost) in
            [("plain", &self.plain, plain), ("fenced", &self.fenced, self.fenced.lost.iter().collect::<Vec<_>>())]
        {
            if !lost.is_empty() {
                let listed: Vec<_> = lost.iter().take(LISTED).map(ToString::to_string).collect();
                broken.push(format!("{} updates of the {name} register were lost: {}", lost.len(), listed.join("; ")));
            }
            if !verdict.unexpected.is_empty() {
                let listed = &verdict.unexpected[..verdict.unexpected.len().min(LISTED)];
                broken.push(format!("the {name} register has elements that no command added: {}", listed.join(" ")));
            }
            if verdict.confirmed == 0 {
                broken.push(format!("no addition to the {name} register was confirmed"));
            }
        }
        broken
    }

    /// Describes both registers side by side; `overtaken` is the number of freezes during which another instance became
    /// leader.
    pub(crate) fn summary(&self, scope: Scope, victims: &BTreeSet<i64>, overtaken: usize) -> String {
        let (plain, fenced) = (&self.plain, &self.fenced);
        let number = victims.len();
        let during = match scope {
            Scope::Guarantee => String::new(),
            Scope::Beyond => format!(" in {number} terms with a fault beyond the guarantee"),
            Scope::Machines => format!(" in {number} freezes"),
        };
        let mut text = format!(
            "{} of {} additions lost{during} without fencing; {} of {} with, and {} requests refused\n",
            plain.lost.len(),
            plain.confirmed,
            fenced.lost.len(),
            fenced.confirmed,
            fenced.refused
        );
        if scope == Scope::Machines {
            let causes: BTreeSet<i64> = plain.lost.iter().filter_map(|loss| victim(loss, victims)).collect();
            text += &format!(
                "{} freezes lost an update; another instance had become leader at the end of {overtaken}\n",
                causes.len()
            );
        }
        text
    }

    /// Describes both registers in a few words.
    pub(crate) fn progress(&self) -> String {
        format!(
            "; {} additions, {} lost without fencing and {} with",
            self.plain.confirmed,
            self.plain.lost.len(),
            self.fenced.lost.len()
        )
    }
}

/// Returns the victim that lost this update or caused the loss.
fn victim(loss: &Loss, victims: &BTreeSet<i64>) -> Option<i64> {
    let Removal { by, of } = loss.removal?;
    [by, of].into_iter().find(|token| victims.contains(token))
}
