//! The manual page: options and exit codes from the program's own definitions, the rest from the files beside.

use std::io;

use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use etcd_await_election::{cli, core::exit_code::Exit};

/// The page, for man(1).
pub(crate) fn page() -> io::Result<Vec<u8>> {
    // One list of options, in the order of the help.
    let command = cli::command().mut_args(|arg| arg.help_heading(None));
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    page.extend_from_slice(include_bytes!("manual/description.roff"));
    man.render_options_section(&mut page)?;
    page.extend_from_slice(include_bytes!("manual/environment.roff"));
    exit_status().to_writer(&mut page)?;
    page.extend_from_slice(include_bytes!("manual/files.roff"));
    page.extend_from_slice(include_bytes!("manual/examples.roff"));
    page.extend_from_slice(include_bytes!("manual/see_also.roff"));
    Ok(page)
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
    fn the_page_has_every_option_variable_and_exit_code() {
        let page = String::from_utf8(page().expect("a page")).expect("UTF-8").replace("\\-", "-");
        for setting in cli::setting::ALL {
            assert!(page.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
            assert!(page.contains(&setting.variable()), "{}", setting.variable());
        }
        for (code, _) in Exit::ALL.map(Exit::meaning) {
            assert!(page.contains(code), "{code}");
        }
        assert!(!page.contains("release-lease"), "what is internal");
    }
}
