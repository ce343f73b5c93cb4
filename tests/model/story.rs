//! Adds the log of the election to the log of a run.

use std::{cell::RefCell, fmt::Write as _, sync::Once};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use crate::sim::Sim;

thread_local! {
    static SIM: RefCell<Option<Sim>> = const { RefCell::new(None) };
}

/// Runs `what` and writes its log to the log of `sim`.
pub(crate) fn told<T>(sim: &Sim, what: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    // One subscriber for all threads, each of which has its own simulation.
    ONCE.call_once(|| tracing::subscriber::set_global_default(Teller).expect("the only subscriber"));
    SIM.set(Some(sim.clone()));
    let result = what();
    SIM.set(None);
    result
}

struct Teller;

impl Subscriber for Teller {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        SIM.with_borrow(Option::is_some)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        SIM.with_borrow(|sim| sim.iter().for_each(|sim| sim.log(|| format!("{}: {}", sim.current(), line.0))));
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
