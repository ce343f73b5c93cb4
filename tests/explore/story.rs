//! A run as a readable story.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    sync::Once,
    time::Duration,
};

use etcd_await_election::{
    core::kv::Op,
    election::protocol::{Answer, Request},
    guard::Program,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use crate::explore::{
    budget::Kind,
    faults::Fault,
    instance::Tree,
    network::Part,
    state::State,
    steps::{Explorer, Step},
};

thread_local! {
    static TOLD: Cell<bool> = const { Cell::new(false) };
    static SPEAKER: Cell<usize> = const { Cell::new(0) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Adds a line, if a story is being told.
pub(crate) fn tell(line: impl FnOnce() -> String) {
    if TOLD.get() {
        LINES.with_borrow_mut(|lines| lines.push(line()));
    }
}

/// Notes which instance the following lines are about.
pub(crate) fn is_about(n: usize) {
    SPEAKER.set(n);
}

/// Names the instance that lines are about.
pub(crate) fn speaker() -> char {
    name(SPEAKER.get())
}

/// Returns what happens meanwhile, with the log of the candidate.
pub(crate) fn of<T>(what: impl FnOnce() -> T) -> (T, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(tracing::subscriber::set_global_default(Teller)));
    TOLD.set(true);
    let result = what();
    TOLD.set(false);
    (result, LINES.take())
}

/// Describes an answer.
pub(crate) fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Granted { .. } => "that the lease was granted".to_owned(),
        Answer::Read(read) => format!("with the keys at revision {}", read.revision),
        Answer::Renewed { read, .. } => {
            format!("that the lease was renewed, with the keys at revision {}", read.revision)
        }
        Answer::KeptAlive { .. } => "that the lease was kept alive".to_owned(),
        Answer::LeaseGone => "that the lease does not exist".to_owned(),
        Answer::Committed(outcome) => format!("with the outcome of the transaction: {outcome:?}"),
        Answer::Changes(changes) => format!("with {} changes", changes.len()),
        Answer::Revoked(existed) => format!("that the lease was revoked (it existed: {existed})"),
        Answer::Failed { failure, .. } => format!("with a failure: {failure}"),
    }
}

/// Names an instance.
pub(crate) fn name(n: usize) -> char {
    char::from(b'A' + u8::try_from(n).unwrap_or(25))
}

/// Writes what happens on this path through the model.
pub(crate) fn write(explorer: &Explorer, property: &str, steps: &[Step]) -> String {
    let mut state = explorer.first_state();
    let (mut time, mut text) = (Duration::ZERO, String::new());
    let mut keys = keys_of(&state);
    let _ = writeln!(text, "            keys: {keys}");
    for step in steps {
        let line = describe(explorer, &state, *step);
        if *step == Step::Pass {
            time += explorer.next_instant(&state).unwrap_or_default();
        }
        let (next, told) = of(|| stateright::Model::next_state(explorer, &state, *step));
        state = next.expect("a state");
        let _ = writeln!(text, "{:>6.2} s  {line}", time.as_secs_f64());
        told.iter().for_each(|line| {
            let _ = writeln!(text, "            {line}");
        });
        let now = keys_of(&state);
        if now != keys {
            let _ = writeln!(text, "            keys: {now}");
            keys = now;
        }
    }
    let _ = match state.violation {
        Some(violation) => writeln!(text, "VIOLATION: {violation}"),
        None => writeln!(
            text,
            "VIOLATION of {property}: no way without faults leads to a running command, or a request is never obeyed"
        ),
    };
    text
}

fn keys_of(state: &State) -> String {
    let keys: Vec<_> = state
        .etcd
        .keys()
        .map(|kv| {
            let lease = kv.lease.map_or_else(|| "no lease".to_owned(), |lease| format!("lease {lease}"));
            format!("{} = {} ({lease}, revision {})", String::from_utf8_lossy(&kv.key), kv.identity(), kv.mod_revision)
        })
        .collect();
    if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
}

fn describe(explorer: &Explorer, state: &State, step: Step) -> String {
    let request = |n: usize, k: usize| {
        state.instance(n).flights.get(k).map_or_else(|| "a change".to_owned(), |flight| show(&flight.request))
    };
    match step {
        Step::Apply(n, k) => format!("etcd handles {}'s request to {}", name(n), request(n, k)),
        Step::Answer(n, k) => format!("{} receives the answer to its request to {}", name(n), request(n, k)),
        Step::GiveUp(n, k) => format!("{} does not wait any longer for its request to {}", name(n), request(n, k)),
        Step::Changes(n, ..) => format!("{}'s watch shows changes, or has broken", name(n)),
        Step::LoseGuard(n) => format!("{} takes over from its guard", name(n)),
        Step::Exits(n) => match state.instance(n).command.tree {
            Tree::Main => {
                format!("the main process of {}'s {} exits; its descendants run on", name(n), program(state, n))
            }
            _ => format!("the descendants of {}'s {} exit", name(n), program(state, n)),
        },
        Step::Orphan(k) => {
            let orphan = &state.orphans[k];
            format!(
                "etcd applies a request of {} that it does not wait for: to {}",
                name(orphan.author),
                show(&orphan.request)
            )
        }
        Step::Expire(lease) => format!("lease {lease} expires"),
        Step::Thaw(n) => format!("{} continues", name(n)),
        Step::Heal(n) => format!("{} reaches etcd again", name(n)),
        Step::Peer(step) => format!("peer: {step:?}"),
        Step::Fault(Fault { kind, n, k, part }) => match kind {
            Kind::CrashGatekeeper => format!("FAULT: {}'s gatekeeper is killed", name(n)),
            Kind::CrashGuard => format!("FAULT: {}'s guard is killed", name(n)),
            Kind::FreezeGatekeeper => format!("FAULT: {}'s gatekeeper freezes", name(n)),
            Kind::FreezeGuard => format!("FAULT: {}'s guard freezes", name(n)),
            Kind::Delay => format!("FAULT: {}{}'s request to {} is delayed", which(part), name(n), request(n, k)),
            Kind::Lose => format!("FAULT: {}{}'s request to {} is lost", which(part), name(n), request(n, k)),
            Kind::Break => format!("FAULT: a watch of {} breaks", name(n)),
            Kind::Twice => format!("FAULT: {}'s request to {} is sent twice", name(n), request(n, k)),
            Kind::Late => String::new(),
            Kind::Cut => format!("FAULT: {} is cut off from etcd", name(n)),
            Kind::Stale => format!("FAULT: {} reads an earlier state", name(n)),
            Kind::Stubborn => format!("FAULT: {}'s {} hangs and does not react to SIGTERM", name(n), program(state, n)),
            Kind::Exit => {
                format!(
                    "the main process of {}'s {} exits by itself; its descendants run on",
                    name(n),
                    program(state, n)
                )
            }
            Kind::Terminate => format!("{} receives SIGTERM", name(n)),
            Kind::Resign => format!("an operator requests a handover from {} to {}", name(n), name(k)),
            Kind::Pause => "an operator pauses the lock".to_owned(),
            Kind::Stray => format!("FAULT: somebody writes a handover request that {} must not obey", name(n)),
            Kind::Restart => format!("{} is started again", name(n)),
            Kind::Go => "the Go tool takes the free lock and starts its command".to_owned(),
            Kind::GoForce => "the Go tool deletes the holder key, takes the lock and starts its command".to_owned(),
            Kind::Sick => format!("the check of {}'s command begins to fail", name(n)),
            Kind::Ineligible => format!("{} is not eligible any more", name(n)),
            Kind::Foreign => "another etcd client joins the queue".to_owned(),
        },
        Step::Pass => {
            let time = explorer.next_instant(state).unwrap_or_default();
            format!("{time:?} pass")
        }
    }
}

fn program(state: &State, n: usize) -> &'static str {
    match state.instance(n).command.program {
        Program::OnElected => "ON_ELECTED",
        Program::Command => "command",
        Program::OnStopped => "ON_STOPPED",
    }
}

const fn which(part: Part) -> &'static str {
    match part {
        Part::None | Part::All => "",
        Part::First => "the second half of ",
        Part::Handled => "the answer to ",
    }
}

fn show(request: &Request) -> String {
    match request {
        Request::Grant { lease, .. } => format!("grant lease {lease}"),
        Request::Read(..) => "read".to_owned(),
        Request::Renew { lease, .. } | Request::RenewEvery { lease, .. } => format!("renew lease {lease}"),
        Request::KeepAlive(lease) => format!("keep lease {lease} alive"),
        Request::Commit(txn) => {
            let ops: Vec<_> = txn
                .then
                .iter()
                .map(|op| match op {
                    Op::Put(key, _, lease) => format!("put {} on lease {lease}", String::from_utf8_lossy(key)),
                    Op::Delete(key) => format!("delete {}", String::from_utf8_lossy(key)),
                })
                .collect();
            ops.join(" and ")
        }
        Request::Watch { .. } => "watch".to_owned(),
        Request::Revoke(lease) => format!("revoke lease {lease}"),
    }
}

/// Adds the log of the candidate to the story.
struct Teller;

impl Subscriber for Teller {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        TOLD.get() && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        tell(|| format!("{} logs: {}", speaker(), line.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "[{name}={value:?}] "),
        };
    }
}
