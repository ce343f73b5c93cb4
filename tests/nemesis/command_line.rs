//! The command line of `cargo xtask nemesis` and `cargo xtask lock-set`.

use std::{env, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use crate::nemesis::{self, Options, Scope};

const OPTIONS: &str = "[--minutes N] [--seed N] [--plan] [--beyond | --freeze-machines]
  --minutes N   no storm begins later than this; 5 unless given
  --seed N      which faults are caused, and when; random unless given
  --plan        only print the first faults of the plan
  --beyond      also cause faults beyond the guarantee: lease revoke, gatekeeper and guard frozen together
  --freeze-machines
                also freeze whole machines for longer than a lease, which is beyond the guarantee";

/// Runs the nemesis as the command line says, or the command of its instances.
pub(crate) fn main(lock_set: bool) -> ExitCode {
    // The command is this program, started again.
    if env::args().any(|argument| argument == "journaled") {
        harness::journaled::run();
        return ExitCode::SUCCESS;
    }
    let options = match options(env::args().skip(1), lock_set) {
        Ok(options) => options,
        Err(why) => {
            let name = if lock_set { "lock-set" } else { "nemesis" };
            eprintln!("{why}\nusage: cargo xtask {name} {OPTIONS}");
            return ExitCode::from(64);
        }
    };
    if env::args().any(|argument| argument == "--plan") {
        print!("{}", nemesis::plan(options.seed, options.scope));
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

fn options(mut arguments: impl Iterator<Item = String>, lock_set: bool) -> Result<Options, String> {
    let program =
        env::var_os("PROGRAM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_etcd-await-election").into(), PathBuf::from);
    let say = |line: &str| println!("{line}");
    let length = Duration::from_secs(300);
    let mut options = Options { seed: nemesis::any_seed(), length, scope: Scope::Guarantee, lock_set, program, say };
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
            "--beyond" => options.scope = Scope::Beyond,
            "--freeze-machines" => options.scope = Scope::Machines,
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(options)
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} needs a number, not {text:?}"))
}
