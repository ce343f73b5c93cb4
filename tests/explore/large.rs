//! The large explorations.

use crate::explore::{Setup, budget::Kind};

/// Explored by hand; the last one needs ten minutes on an idle machine, and 8 GB.
pub(crate) fn large() -> Vec<(&'static str, Setup)> {
    use Kind::*;
    vec![
        ("three instances, one fault", Setup::new(3, 1)),
        ("three instances with FORCE_ACQUIRE, one fault", Setup::new(3, 1).force(&[0, 1, 2])),
        (
            "two instances and their peers, three events",
            Setup::new(2, 3).only(&[Go, GoForce, Foreign, Resign, Terminate, Restart, Exit, Late]).force(&[0]),
        ),
        ("two instances, faults beyond the guarantee, two faults", {
            let mut setup =
                Setup::new(2, 2).only(&[CrashGatekeeper, CrashGuard, FreezeGatekeeper, FreezeGuard, Stubborn]);
            setup.beyond = true;
            setup
        }),
        (
            "two instances with ON_ELECTED and ON_STOPPED, two faults of processes or the network",
            Setup::new(2, 2)
                .only(&[CrashGatekeeper, CrashGuard, FreezeGatekeeper, FreezeGuard, Cut, Stubborn, Exit, Terminate])
                .with_hooks(),
        ),
        ("two instances, two faults", Setup::new(2, 2)),
    ]
}
