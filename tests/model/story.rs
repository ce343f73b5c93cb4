//! What the election logs, in the story of a run.

use std::{cell::RefCell, fmt::Write as _};

use tracing::{Event, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::sim::Sim;

thread_local! {
    static SIM: RefCell<Option<Sim>> = const { RefCell::new(None) };
}

/// Runs `what` with everything that it logs written to the log of `sim`.
pub(crate) fn told<T>(sim: &Sim, what: impl FnOnce() -> T) -> T {
    SIM.set(Some(sim.clone()));
    let result = tracing::subscriber::with_default(tracing_subscriber::registry().with(Teller), what);
    SIM.set(None);
    result
}

struct Teller;

impl<S: Subscriber> Layer<S> for Teller {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        SIM.with_borrow(|sim| {
            if let Some(sim) = sim {
                sim.log(|| format!("{}: {}", sim.current(), line.0));
            }
        });
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "[{name}={value:?}] "),
        };
    }
}
