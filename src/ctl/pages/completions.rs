//! The completions, for the shells that clap knows and people use.

use std::{io, path::Path};

use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate_to};

use crate::settings;

/// Writes one file for each shell, under the names that the shells look for.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let mut command = visible(&settings::definition());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "etcd-await-election", folder)?;
    }
    Ok(())
}

/// Returns a definition without what is hidden, which the shells would offer all the same.
fn visible(definition: &Command) -> Command {
    let arguments = definition.get_arguments().filter(|arg| !arg.is_hide_set());
    let verbs = definition.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new(definition.get_name().to_owned())
        .disable_help_subcommand(true)
        .about(definition.get_about().cloned().unwrap_or_default())
        .args(arguments.cloned().map(brief))
        .subcommands(verbs.map(visible))
}

fn brief(arg: Arg) -> Arg {
    // A list of completions has room for one sentence of help.
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let arg = arg.help(help.split(". ").next().unwrap_or_default().to_owned());
    // To zsh a colon is the end of the name.
    let has_colon = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.contains(':')));
    let arg = if has_colon { arg.value_name("ADDRESS") } else { arg };
    // Without a hint the shells offer files.
    let is_text = arg.get_value_hint() == ValueHint::Unknown && arg.get_action().takes_values();
    if is_text && arg.get_possible_values().is_empty() { arg.value_hint(ValueHint::Other) } else { arg }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_finds_its_file_and_in_it_every_flag_and_verb() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("writing");
        for file in ["etcd-await-election.bash", "_etcd-await-election", "etcd-await-election.fish"] {
            let text = std::fs::read_to_string(folder.path().join(file)).expect(file);
            let definition = settings::definition();
            let flags = definition.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
            for part in flags.chain(["campaign", "healthcheck", "json"]) {
                assert!(text.contains(part), "{file}: {part}");
            }
            assert!(!text.contains("pages"), "{file}: what is internal");
        }
    }
}
