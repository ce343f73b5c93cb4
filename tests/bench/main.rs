//! `cargo xtask bench`: how fast the program is and what it costs, beside `etcdctl lock` and bare etcd, on one cluster in
//! one run.
//!
//! Contestants alternate run by run, so that other load on the machine affects all of them; the ratios are those of
//! runs, not of medians. Every process takes its own timestamps, on the boot-time clock.

mod contestant;
mod counters;
mod fleet;
mod floor;
mod noise;
mod options;
mod plot;
mod probe;
mod report;
mod results;
mod stages;
mod statistics;
mod times;
mod wait;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use harness::{Cluster, journal::now};

use self::{
    contestant::Contestant, counters::Etcd, floor::Floor, noise::Noise, options::Options, report::Report,
    times::Ending, wait::Failure,
};

fn main() -> ExitCode {
    let begun = now();
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if let [role, path, number] = arguments.as_slice()
        && role == probe::ROLE
    {
        probe::run(begun, Path::new(path), &number.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    match Options::parse(arguments).and_then(|options| bench(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the program that is measured: built with the bench profile, which is that of a release, or the one that
/// `PROGRAM_BIN` names.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = || env!("CARGO_BIN_EXE_etcd-await-election").into();
        env::var_os("PROGRAM_BIN").map_or_else(built, PathBuf::from)
    });
    &PROGRAM
}

fn bench(options: &Options) -> Result<(), Failure> {
    eprintln!("three members of etcd start …");
    let cluster = Cluster::builder().create();
    let mut floor = Floor::new(&cluster)?;
    let mut noise = Noise::default();
    let before = Etcd::of(&cluster)?;
    noise.sample("before");

    let mut cases = Vec::new();
    let runs = options.runs;
    // Runs that wait for a lease take seconds.
    let few = runs.div_ceil(5).max(3);
    for part in options.times() {
        cases.push(match part {
            "start" => times::start(&cluster, &mut floor, runs),
            "vote" => times::start_after_vote(&cluster, &mut floor, runs),
            "exit" => times::hand_over(&cluster, &mut floor, runs, Ending::Exit),
            "sigterm" => times::hand_over(&cluster, &mut floor, runs, Ending::Terminate),
            "killed" => times::killed(&cluster, &mut floor, few),
            "cut-off" => times::cut_off(&cluster, &mut floor, few),
            "force" => times::force(&cluster, &mut floor, runs),
            _ => times::pass_through(runs * 3),
        });
        noise.sample(part);
    }
    let stages = options.has("stages").then(|| stages::measure(&cluster, &mut floor, runs));
    if stages.is_some() {
        noise.sample("stages");
    }
    let fleets = if options.has("fleet") { fleets(&cluster, &mut floor, options, &mut noise)? } else { Vec::new() };

    let leader_changes = Etcd::of(&cluster)?.leader_changes - before.leader_changes;
    let binary = fs::metadata(program()).map_err(|error| error.to_string())?.len();
    let report = Report { machine: noise::machine(), noise, leader_changes, binary, cases, stages, fleets };
    let folder = folder();
    let (markdown, plot) = (report.markdown(), plot::draw(&report));
    println!("{markdown}");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(&folder.join("bench.md"), &markdown)?;
    write(&folder.join("bench.json"), &format!("{:#}\n", report.json()))?;
    write(&folder.join("bench.svg"), &plot)?;
    eprintln!("written to {}: bench.md, bench.json, bench.svg", folder.display());
    if options.publish { publish(&markdown, &plot) } else { Ok(()) }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts the tables between the marks in docs/benchmarks.md, and the plot beside it.
fn publish(markdown: &str, plot: &str) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("docs/benchmarks.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{}: no {BEGIN} and {END}", page.display()))?;
    write(&page, &format!("{before}{BEGIN}\n\n{markdown}\n{END}{after}"))?;
    write(&root.join("docs/benchmarks.svg"), plot)
}

const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

fn fleets(
    cluster: &Arc<Cluster>,
    floor: &mut Floor,
    options: &Options,
    noise: &mut Noise,
) -> Result<Vec<results::Fleet>, Failure> {
    let idle = fleet::idle(cluster)?;
    eprintln!("etcd alone: {:.2} requests and {:.2} proposals per second", idle.requests, idle.proposals);
    let mut fleets = Vec::new();
    let few = options.runs.div_ceil(3);
    for &waiting in &options.waiting {
        for contestant in [Contestant::Program, Contestant::Etcdctl] {
            if contestant == Contestant::Etcdctl && waiting > options.waiting_etcdctl {
                continue;
            }
            match fleet::measure(cluster, floor, contestant, waiting, few, &idle) {
                Ok(fleet) => {
                    eprintln!("{}", fleet.json());
                    fleets.push(fleet);
                }
                Err(failure) => eprintln!("{waiting} waiting, {}: {failure}", contestant.name()),
            }
        }
        noise.sample(&format!("{waiting} waiting"));
    }
    Ok(fleets)
}

/// `target/bench`.
fn folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
        .join("bench")
}
