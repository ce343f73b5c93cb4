//! The completions, with what the definition does not say: what kind of word a value is.

use std::{io, path::Path};

use clap::{Arg, Command, ValueHint, builder::PossibleValuesParser};
use clap_complete::{Shell, generate_to};
use etcd_await_election::cli;

/// Writes one file for each shell, under the names that the shells look for.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let mut command = hinted(&cli::command());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "etcd-await-election", folder)?;
    }
    Ok(())
}

/// What the shells are told: without what is internal, which they would offer all the same; and what kind of word a value
/// is, which its name tells: `FILE`, or the words to choose from, `exit|campaign`.
fn hinted(definition: &Command) -> Command {
    let visible = definition.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let command = Command::new("etcd-await-election").args(visible).mut_args(|arg| match arg.is_positional() {
        true => arg.value_hint(ValueHint::CommandWithArguments),
        false => first_line(arg),
    });
    cli::setting::ALL.iter().fold(command, |command, setting| {
        command.mut_arg(setting.flag, |arg| match setting.value {
            "FILE" => arg.value_hint(ValueHint::FilePath),
            // To zsh a colon is the end of the name.
            "HOST:PORT" => arg.value_name("ADDRESS").value_hint(ValueHint::Other),
            words if words.contains('|') => arg.value_parser(PossibleValuesParser::new(words.split('|'))),
            _ => arg.value_hint(ValueHint::Other),
        })
    })
}

/// A list of completions has room for one line of help: what follows names the variable and the default.
fn first_line(arg: Arg) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg.help(help.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_finds_its_file_and_in_it_every_flag() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("writing");
        for file in ["etcd-await-election.bash", "_etcd-await-election", "etcd-await-election.fish"] {
            let text = std::fs::read_to_string(folder.path().join(file)).expect(file);
            for setting in cli::setting::ALL {
                assert!(text.contains(setting.flag), "{file}: {}", setting.flag);
            }
            assert!(text.contains("campaign"), "{file}: a value to choose");
            assert!(!text.contains("release-lease"), "{file}: what is internal");
        }
    }
}
