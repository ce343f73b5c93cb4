//! The nemesis: five instances, three members, and a fault about every second. Commands must not overlap, and an
//! instance must lead whenever the faults end.
//!
//! The faults follow from the seed alone ([`plan`]), but not the exact timing of the processes, so a seed that failed
//! is likely, not certain, to fail again.

mod additions;
mod chronicle;
mod fleet;
mod judge;
mod life;
mod machine;
mod marks;
mod picture;
mod plan;
mod report;
mod strike;
mod svg;

use std::{
    collections::BTreeSet,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use harness::{Cluster, Disk, LockSet, Names, World, certificates::NAME, journal::now, wait::scaled};

pub(crate) use self::plan::Scope;
use self::{
    additions::Additions,
    chronicle::{Calm, Chronicle},
    fleet::{Fleet, Ground},
    judge::Verdict,
    plan::{INSTANCES, Round},
    strike::Striker,
};

/// The interval at which the journal is checked.
const LOOK: Duration = Duration::from_secs(2);
/// The interval at which due actions are performed.
const TICK: Duration = Duration::from_millis(20);
/// The time for which an instance leads undisturbed before the next storm.
const REST: Duration = Duration::from_secs(2);

/// The options of a run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    /// No storm begins later than this.
    pub(crate) length: Duration,
    pub(crate) scope: Scope,
    /// Whether the commands add to a set, of which no update may be lost.
    pub(crate) lock_set: bool,
    pub(crate) program: PathBuf,
    /// Receives the progress of the run.
    pub(crate) say: fn(&str),
}

impl Options {
    /// The name of the command that runs it, and of the folder of its reports.
    const fn name(&self) -> &'static str {
        if self.lock_set { "lock-set" } else { "nemesis" }
    }
}

/// Runs storms and calms until the time is over; returns the report, or the report with everything that was wrong.
pub(crate) fn run(options: &Options) -> Result<String, String> {
    let world = World::new(Cluster::builder().create(), &options.program);
    let stray = Cluster::builder().create_stray(world.cluster());
    let disk = Disk::mount(world.directory());
    let names = Names::new().inspect(|names| names.set(NAME, &world.cluster().ips()));
    let id = world.cluster().etcdctl().cluster_id()?;
    let lock_set = options.lock_set.then(|| LockSet::new(world.directory()));
    let (disk, lock_set) = (disk.as_ref(), lock_set.as_ref());
    let ground = Ground { world: &world, seed: options.seed, stray: &stray, id, names, disk, lock_set };
    let mut run = Run::new(ground, options);
    let begun = Instant::now();
    for number in 0.. {
        run.storm(&Round::new(options.seed, number, options.scope));
        run.calm();
        run.judge_additions();
        (options.say)(&run.progress(number));
        if run.is_wrong() || begun.elapsed() >= options.length {
            break;
        }
    }
    run.close();
    run.deliver()
}

struct Run<'a> {
    options: &'a Options,
    world: &'a World,
    fleet: Fleet<'a>,
    striker: Striker<'a>,
    chronicle: Chronicle,
    looked: Instant,
    /// The verdict on the journal at the last check.
    verdict: Verdict,
    /// The verdict on the set at the last check.
    additions: Option<Additions>,
    /// All other violations.
    wrong: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(ground: Ground<'a>, options: &'a Options) -> Self {
        let world = ground.world;
        let mut chronicle = Chronicle { begun: now(), ..Chronicle::default() };
        let fleet = Fleet::start(ground, &mut chronicle);
        Self {
            options,
            world,
            fleet,
            striker: Striker::new(world),
            chronicle,
            looked: Instant::now(),
            verdict: Verdict::default(),
            additions: None,
            wrong: Vec::new(),
        }
    }

    /// Causes the faults of the plan.
    fn storm(&mut self, round: &Round) {
        let begun = Instant::now();
        let mut steps = round.steps.iter().peekable();
        while begun.elapsed() < round.length && !self.is_wrong() {
            while let Some(step) = steps.next_if(|step| step.at <= begun.elapsed()) {
                self.striker.strike(step, &mut self.fleet, &mut self.chronicle);
            }
            self.tick();
        }
    }

    /// Heals everything: an instance must lead in time, and all instances must be seen in the queue.
    fn calm(&mut self) {
        self.striker.heal_all(&mut self.fleet, &mut self.chronicle);
        let from = now();
        let begun = Instant::now();
        let mut led = None;
        let mut seen = BTreeSet::new();
        while (led.is_none() || seen.len() < INSTANCES) && !self.is_wrong() {
            let late = begun.elapsed() > scaled(plan::bound());
            self.tick();
            if led.is_none() && self.fleet.is_led() {
                led = Some(now());
            }
            if led.is_some() {
                seen.append(&mut self.fleet.queue());
            }
            if late && led.is_none() {
                self.wrong.push(format!("no instance leads {:?} after all faults were healed", begun.elapsed()));
            } else if late && seen.len() < INSTANCES {
                self.wrong.push(format!(
                    "{:?} after all faults were healed only {seen:?} were in the queue",
                    begun.elapsed()
                ));
            }
        }
        let rest = Instant::now();
        while rest.elapsed() < REST && !self.is_wrong() {
            self.tick();
        }
        self.chronicle.calms.push(Calm { from, led, to: now() });
    }

    fn tick(&mut self) {
        self.striker.heal_due(&mut self.fleet, &mut self.chronicle);
        self.fleet.supervise(&mut self.chronicle);
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
        thread::sleep(TICK);
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        self.verdict = Verdict::of(&self.world.journal().lives(), &self.striker.victims);
        self.wrong.append(&mut self.fleet.unexpected);
    }

    fn judge_additions(&mut self) {
        self.additions = self.fleet.ground.lock_set.map(Additions::of);
        let broken = self.additions.as_ref().map(|additions| additions.broken(&self.striker.victims));
        let new = broken.unwrap_or_default().into_iter().filter(|line| !self.wrong.contains(line));
        self.wrong.extend(new.collect::<Vec<_>>());
    }

    fn is_wrong(&self) -> bool {
        !self.verdict.broken.is_empty() || !self.wrong.is_empty()
    }

    fn progress(&self, round: u64) -> String {
        let terms = judge::terms(&self.world.journal().lives());
        let calm = self.chronicle.calms.last();
        let led = calm.and_then(|calm| Some(Duration::from_nanos(calm.led? - calm.from)));
        format!(
            "{:>6.0} s  storm {round}: {} faults and {} terms so far; then an instance led {}{}{}",
            Duration::from_nanos(now() - self.chronicle.begun).as_secs_f64(),
            self.chronicle.events.len(),
            terms.len(),
            led.map_or_else(|| "not yet".to_owned(), |led| format!("after {:.1} s", led.as_secs_f64())),
            self.additions.as_ref().map_or_else(String::new, Additions::progress),
            if self.is_wrong() { "; SOMETHING IS WRONG, stopping here" } else { "" }
        )
    }

    /// Stops all instances, and checks that nothing remains.
    fn close(&mut self) {
        self.chronicle.ended = now();
        // This waits for all instances and their commands.
        if let Err(panicked) = catch_unwind(AssertUnwindSafe(|| self.world.close())) {
            self.wrong.push(panicked.downcast_ref::<String>().cloned().unwrap_or_default());
        }
        self.look();
        self.judge_additions();
        // A lease that no process could revoke expires.
        let limit = Instant::now() + scaled(plan::longest_lease() + Duration::from_secs(5));
        let journal = self.world.journal().path().display().to_string();
        loop {
            let left = self.left(&journal);
            match left {
                None => break,
                Some(left) if Instant::now() >= limit => break self.wrong.push(left),
                Some(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Returns keys, leases or processes of this run that still exist.
    fn left(&self, journal: &str) -> Option<String> {
        let processes = fleet::processes_with(journal);
        if !processes.is_empty() {
            return Some(format!("processes remain: {}", processes.join(", ")));
        }
        match self.world.keys() {
            Ok(keys) if keys.is_empty() => {}
            other => return Some(format!("keys remain: {other:?}")),
        }
        // A lease may be granted before the response shows that it is another cluster, but no key may be written.
        match self.fleet.ground.stray.etcdctl().keys(self.world.lock()) {
            Ok(keys) if keys.is_empty() => {}
            other => return Some(format!("keys remain in the stray cluster: {other:?}")),
        }
        match self.world.cluster().etcdctl().leases() {
            Ok(leases) if leases.is_empty() => None,
            other => Some(format!("leases remain: {other:x?}")),
        }
    }

    /// Draws the picture and writes the report; returns the report, or the report with everything that was wrong.
    fn deliver(mut self) -> Result<String, String> {
        let terms = judge::terms(&self.world.journal().lives());
        self.wrong.extend(self.panicked());
        let wrong: Vec<String> = self.verdict.broken.iter().chain(&self.wrong).cloned().collect();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(self.options.name());
        let file = |what: &str| folder.join(format!("{}.{what}", self.options.seed));
        let mut report = format!("seed {}\n{}", self.options.seed, report::summary(&self.chronicle, &terms));
        if let Some(additions) = &self.additions {
            let Striker { victims, overtaken, .. } = &self.striker;
            report += &additions.summary(self.options.scope, victims, overtaken.len());
        }
        let beyond = &self.verdict.beyond;
        if !beyond.is_empty() {
            report += &format!("{} violations beyond the limits of the guarantee, as expected\n", beyond.len());
        }
        report += &format!("picture: {}\nstory:   {}\n", file("svg").display(), file("txt").display());
        if wrong.is_empty() {
            let no_loss = if self.options.lock_set { ", no lost update" } else { "" };
            report += &format!(
                "Verdict: within the guarantee no overlap{no_loss}, tokens only grew; an instance led in every calm, and no \
                 keys, leases or processes remain.\n"
            );
        } else {
            report += &format!("logs:    {}\n", file("logs").display());
            report += &format!("VERDICT: BROKEN\n  {}\n", wrong.join("\n  "));
        }
        let story = format!("{report}\n{}\n{}", beyond.join("\n"), report::story(&self.chronicle, &terms));
        let picture = picture::draw(&self.chronicle, &terms, self.options.seed, &wrong);
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(file("svg"), picture))
            .and_then(|()| fs::write(file("txt"), story));
        if let Err(error) = written {
            report += &format!("{}: {error}\n", folder.display());
        }
        if wrong.is_empty() {
            return Ok(report);
        }
        if let Err(error) = self.keep_logs(&file("logs")) {
            report += &format!("the logs could not be kept: {error}\n");
        }
        Err(report)
    }

    /// Collects panics from the logs.
    fn panicked(&self) -> Vec<String> {
        let logs = self.folders().into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let texts = logs.filter(|log| log.path().extension().is_some_and(|end| end == "stderr"));
        let lines = texts.filter_map(|log| {
            let text = fs::read_to_string(log.path()).ok()?;
            let line = text.lines().find(|line| line.contains("panicked at"))?;
            Some(format!("{}: {line}", log.file_name().display()))
        });
        lines.collect()
    }

    /// Returns the files of all logs.
    fn folders(&self) -> Vec<PathBuf> {
        let hanging = self.fleet.ground.disk.map(|disk| disk.path().to_owned());
        std::iter::once(self.world.directory().to_owned()).chain(hanging).collect()
    }

    fn keep_logs(&self, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let members: Vec<PathBuf> = self.world.cluster().members().iter().map(|member| member.log().into()).collect();
        let own = self.folders().into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let own = own.map(|entry| entry.path()).filter(|path| path.file_name().is_some_and(|name| name != "image"));
        for file in own.chain(members).filter(|file| file.is_file()) {
            fs::copy(&file, to.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }
}

/// Chooses a seed.
pub(crate) fn any_seed() -> u64 {
    now() % 1_000_000
}

/// Describes the plan of the first rounds.
pub(crate) fn plan(seed: u64, scope: Scope) -> String {
    (0..3).flat_map(|number| Round::new(seed, number, scope).steps).map(|step| format!("{step:?}\n")).collect()
}
