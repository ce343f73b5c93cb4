//! The manual page: options, operator commands and exit codes from their definitions, the rest from the files beside this one.

use std::io;

use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, roman},
};

use crate::{core::exit_code::Exit, settings};

/// Returns the page, for man(1).
pub(super) fn page() -> io::Result<Vec<u8>> {
    // One list of options, in the order of the help.
    let man = Man::new(settings::definition().mut_args(|arg| arg.help_heading(None)));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(include_bytes!("synopsis.roff"));
    page.extend_from_slice(include_bytes!("description.roff"));
    man.render_options_section(&mut page)?;
    operator_commands().to_writer(&mut page)?;
    page.extend_from_slice(include_bytes!("environment.roff"));
    exit_status().to_writer(&mut page)?;
    page.extend_from_slice(include_bytes!("files.roff"));
    page.extend_from_slice(include_bytes!("examples.roff"));
    page.extend_from_slice(include_bytes!("see_also.roff"));
    Ok(page)
}

fn operator_commands() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["OPERATOR COMMANDS"]);
    let definition = settings::definition();
    for ctl in definition.get_subcommands() {
        for verb in ctl.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            roff.control("TP", []);
            // Settings are listed among the options.
            roff.text([bold(format!("{} {}", ctl.get_name(), verb.get_name())), italic(settings::synopsis(verb))]);
            roff.text([roman(verb.get_about().map(ToString::to_string).unwrap_or_default() + ".")]);
        }
    }
    roff
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in Exit::ALL.map(Exit::meaning) {
        roff.control("TP", []);
        roff.text([bold(code)]);
        // What stands between backticks is typed as it is.
        let parts = meaning.split('`').enumerate();
        let parts = parts.map(|(index, part)| if index % 2 == 1 { bold(part) } else { roman(part) });
        roff.text(parts.collect::<Vec<_>>());
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_option_variable_operator_command_and_exit_code() {
        let page = String::from_utf8(page().expect("a page")).expect("UTF-8").replace("\\-", "-");
        for arg in settings::definition().get_arguments().filter(|arg| !arg.is_hide_set()) {
            let variable = arg.get_env().map(|name| name.to_str().expect("UTF-8"));
            for part in arg.get_long().map(|flag| format!("--{flag}")).iter().map(String::as_str).chain(variable) {
                assert!(page.contains(part), "{part}");
            }
        }
        for (code, _) in Exit::ALL.map(Exit::meaning) {
            assert!(page.contains(code), "{code}");
        }
        assert!(page.contains("ctl show") && page.contains("ctl healthcheck"));
        assert!(!page.contains("ctl pages"), "what is internal");
    }
}
