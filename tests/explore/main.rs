//! `cargo xtask explore`: explores one setup, or the large ones.

#[path = "run.rs"]
mod explore;
mod large;

use std::{env, process::ExitCode, str::FromStr};

use explore::{Mutant, Setup, budget::Kind, setups};

const USAGE: &str = "usage: cargo xtask explore [--small | --large | --mutants | options]
  --small            Explore what the tests explore
  --large            Explore the large setups, one after the other
  --mutants          Explore each mutant where it is found, and print the shortest story
  --instances N      2 unless given
  --faults N         1 unless given; faults of any kind in all
  --kinds A,B:1      Only faults of these kinds, at most this many of a kind; all kinds unless given
  --force A,B        These instances have FORCE_ACQUIRE
  --hooks            All instances have ON_ELECTED and ON_STOPPED
  --same-identity    All instances have one identity
  --exit             Instances exit after a loss (ON_LOSS=exit)
  --warm             Faults begin only when a command runs
  --beyond           Also faults of both processes of an instance at once, which are counted apart
  --mutant NAME      Explore a mutant
  --threads N        1 unless given: only then is a story the shortest";

/// What an option changes in the setup.
type Change = Box<dyn FnOnce(Setup) -> Result<Setup, String>>;

struct Options {
    setups: Vec<(String, Setup)>,
    threads: usize,
}

fn main() -> ExitCode {
    let options = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}\nkinds: {:?}\nmutants: {:?}", Kind::ALL, Mutant::ALL);
            return ExitCode::from(64);
        }
    };
    let mut is_in_order = true;
    for (name, setup) in options.setups {
        println!("{name}");
        let outcome = explore::explore(&setup, options.threads, |line| println!("{line}"));
        println!("  {outcome}");
        if let Some(found) = &outcome.found {
            println!("{}", found.story);
        }
        is_in_order &= outcome.found.is_some() == setup.mutant.is_some();
    }
    if is_in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut instances, mut faults, mut threads) = (2, 1, 1);
    let mut changes: Vec<Change> = Vec::new();
    let mut listed = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--small" => listed = Some(owned(setups::small())),
            "--large" => listed = Some(owned(large::large())),
            "--mutants" => {
                let setup = |mutant| (format!("mutant {mutant:?}"), setups::of_mutant(mutant));
                listed = Some(Mutant::ALL.into_iter().map(setup).collect());
            }
            "--instances" => instances = number(&word, &value()?)?,
            "--faults" => faults = number(&word, &value()?)?,
            "--threads" => threads = number(&word, &value()?)?,
            "--kinds" => {
                let kinds = value()?;
                changes.push(Box::new(move |setup| limited(setup, &kinds)));
            }
            "--force" => {
                let names = value()?;
                let numbers: Vec<_> = names
                    .split(',')
                    .map(|name| name.bytes().next().map_or(usize::MAX, |letter| usize::from(letter.wrapping_sub(b'A'))))
                    .collect();
                if numbers.iter().any(|n| *n >= instances) {
                    return Err("--force needs names of instances, such as A,B; --instances comes before it".to_owned());
                }
                changes.push(Box::new(move |setup| Ok(setup.force(&numbers))));
            }
            "--hooks" => changes.push(Box::new(|setup| Ok(setup.with_hooks()))),
            "--same-identity" => changes.push(Box::new(|setup| Ok(setup.with_same_identity()))),
            "--exit" => changes.push(Box::new(|setup| Ok(setup.exiting()))),
            "--warm" => changes.push(Box::new(|setup| Ok(Setup { warm: true, ..setup }))),
            "--beyond" => changes.push(Box::new(|setup| Ok(Setup { beyond: true, ..setup }))),
            "--mutant" => {
                let mutant = named(&Mutant::ALL, &value()?)?;
                changes.push(Box::new(move |setup| Ok(Setup { mutant: Some(mutant), ..setup })));
            }
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    if !(1..=3).contains(&instances) {
        return Err("--instances must be 1, 2 or 3".to_owned());
    }
    let setups = match listed {
        Some(setups) => setups,
        None => {
            let setup = changes.into_iter().try_fold(Setup::new(instances, faults), |setup, change| change(setup))?;
            vec![(format!("{instances} instances, {faults} faults"), setup)]
        }
    };
    Ok(Options { setups, threads })
}

fn owned(setups: Vec<(&str, Setup)>) -> Vec<(String, Setup)> {
    setups.into_iter().map(|(name, setup)| (name.to_owned(), setup)).collect()
}

fn limited(setup: Setup, kinds: &str) -> Result<Setup, String> {
    let limits: Vec<_> = kinds.split(',').map(|kind| kind.split_once(':').unwrap_or((kind, "255"))).collect();
    let all = limits.iter().map(|(kind, _)| named(&Kind::ALL, kind)).collect::<Result<Vec<_>, _>>()?;
    let mut setup = setup.only(&all);
    for (kind, (_, limit)) in all.into_iter().zip(limits) {
        setup = setup.at_most(kind, number("--kinds", limit)?);
    }
    Ok(setup)
}

fn named<T: Copy + std::fmt::Debug>(all: &[T], name: &str) -> Result<T, String> {
    all.iter().copied().find(|it| format!("{it:?}") == name).ok_or_else(|| format!("{name:?} does not exist"))
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} needs a number, not {text:?}"))
}
