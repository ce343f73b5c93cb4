//! `cargo xtask nemesis`: the nemesis for any time, with a seed that can be repeated.

#[path = "run.rs"]
mod nemesis;

use std::{env, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use nemesis::Options;

const USAGE: &str = "usage: cargo xtask nemesis [--minutes N] [--seed N] [--plan] [--beyond]
  --minutes N   no storm begins later than this; 5 unless given
  --seed N      what is done, and when; any unless given
  --plan        only say what would be done first
  --beyond      also what the promise does not cover: lease revoke, gatekeeper and guard frozen together";

fn main() -> ExitCode {
    // The command is this program, started again.
    if env::args().any(|argument| argument == "journaled") {
        harness::journaled::run();
        return ExitCode::SUCCESS;
    }
    let options = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    if env::args().any(|argument| argument == "--plan") {
        print!("{}", nemesis::plan(options.seed, options.beyond));
        return ExitCode::SUCCESS;
    }
    println!("seed {}, {:.1} minutes", options.seed, options.length.as_secs_f64() / 60.0);
    match nemesis::run(&options) {
        Ok(report) => {
            println!("\n{report}");
            ExitCode::SUCCESS
        }
        Err(report) => {
            println!("\n{report}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let program =
        env::var_os("PROGRAM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_etcd-await-election").into(), PathBuf::from);
    let say = |line: &str| println!("{line}");
    let mut options =
        Options { seed: nemesis::any_seed(), length: Duration::from_secs(300), beyond: false, program, say };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a number"));
        match name.as_str() {
            "--minutes" => {
                let minutes: f64 = number(&name, &value()?)?;
                options.length =
                    Duration::try_from_secs_f64(60.0 * minutes).map_err(|error| format!("{name}: {error}"))?;
            }
            "--seed" => options.seed = number(&name, &value()?)?,
            "--plan" => {}
            "--beyond" => options.beyond = true,
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(options)
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} needs a number, not {text:?}"))
}
