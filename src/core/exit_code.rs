//! The exit codes. The help, the manual page and the documents are generated from this table. Each code has one meaning.

use std::process::ExitCode;

/// How the program ends. The exit code of the command is passed on unchanged. The program's own codes are those of `sysexits.h`
/// and the next four, which shells and most commands do not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// The command ended with this code; also 0 for an operator command that succeeded, and for `--help`.
    Command(u8),
    /// The command, or the program while it waited, ended by this signal: 128 + n.
    Signal(u8),
    /// 126: the command was found and cannot be executed.
    NotExecutable,
    /// 127: the command was not found.
    NotFound,
    /// 64: the command line or a variable cannot be understood, or settings are missing.
    Usage,
    /// 69: etcd did not answer an operator's command in time.
    Unavailable,
    /// 70: the guard was lost, and the command was ended with it.
    Guard,
    /// 71: a limit of the system prevents the start of the program's processes, or `/proc` does not show them.
    System,
    /// 73: `ctl install` could not write the program.
    CannotCreate,
    /// 74: stdout cannot be written to.
    CannotPrint,
    /// 75: `ACQUIRE_TIMEOUT` ran out before leadership was acquired.
    GaveUp,
    /// 77: etcd denied access: wrong password or missing permission; or TLS verification failed.
    NoPermission,
    /// 78: a file or an address of the configuration cannot be used.
    Config,
    /// 79: leadership was lost, or another instance or an operator requested it; the command was ended.
    Lost,
    /// 80: another living instance uses the same identity and took leadership over. Under systemd the program first waits.
    IdentityTaken,
    /// 81: the state of the lock does not allow what an operator's command was to do. Nothing was changed.
    Refused,
    /// 82: the handover that an operator requested has not happened.
    NotHandedOver,
}

impl Exit {
    /// Returns the exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Command(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Guard => 70,
            Self::System => 71,
            Self::CannotCreate => 73,
            Self::CannotPrint => 74,
            Self::GaveUp => 75,
            Self::NoPermission => 77,
            Self::Config => 78,
            Self::Lost => 79,
            Self::IdentityTaken => 80,
            Self::Refused => 81,
            Self::NotHandedOver => 82,
        }
    }
}

impl Exit {
    /// All exit codes, in the order of the table in docs/operations.md.
    pub const ALL: [Self; 17] = [
        Self::Command(0),
        Self::Signal(0),
        Self::NotExecutable,
        Self::NotFound,
        Self::Usage,
        Self::Unavailable,
        Self::Guard,
        Self::System,
        Self::CannotCreate,
        Self::CannotPrint,
        Self::GaveUp,
        Self::NoPermission,
        Self::Config,
        Self::Lost,
        Self::IdentityTaken,
        Self::Refused,
        Self::NotHandedOver,
    ];

    /// Returns the code and its meaning, for the help and docs/operations.md.
    #[must_use]
    pub const fn meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Command(_) => ("0–255", "the command's own code; 0 also for `ctl` and `--help`"),
            Self::Signal(_) => ("128+n", "the command, or this program while it waited, was ended by signal n"),
            Self::NotExecutable => ("126", "the command was found and cannot be executed"),
            Self::NotFound => ("127", "the command was not found"),
            Self::Usage => ("64", "a flag or a variable cannot be understood, or settings are missing"),
            Self::Unavailable => ("69", "etcd did not answer an operator's command, such as `ctl show`, in time"),
            Self::Guard => ("70", "the guard process was lost, and the command was ended with it"),
            Self::System => (
                "71",
                "the program could not be started: the machine has no room for its processes, or `/proc` does not show them",
            ),
            Self::CannotCreate => ("73", "`ctl install` could not write the program to the folder"),
            Self::CannotPrint => {
                ("74", "the output of an operator's command could not be written, for example to a full disk")
            }
            Self::GaveUp => ("75", "`ACQUIRE_TIMEOUT` ran out before leadership was acquired"),
            Self::NoPermission => {
                ("77", "etcd denied access: wrong password or missing permission; or TLS verification failed")
            }
            Self::Config => ("78", "a file or an address of the configuration cannot be used"),
            Self::Lost => {
                ("79", "leadership was lost, or another instance or an operator requested it; the command was ended")
            }
            Self::IdentityTaken => (
                "80",
                "another living instance uses the same identity and took leadership over; under systemd the program first \
                 waits for 5 minutes",
            ),
            Self::Refused => (
                "81",
                "the state of the lock does not allow what the operator's command was to do; nothing was changed",
            ),
            Self::NotHandedOver => ("82", "`ctl resign` requested a handover, and it did not happen"),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_code_of_our_own_once() {
        let own: Vec<_> = Exit::ALL.into_iter().skip(2).collect();
        for exit in &own {
            assert_eq!(exit.meaning().0, exit.code().to_string());
            assert_eq!(own.iter().filter(|other| other.code() == exit.code()).count(), 1, "{exit:?}");
        }
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Signal(200).code(), 255);
    }
}
