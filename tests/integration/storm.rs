//! A minute of the nemesis, with a new seed each time; `cargo xtask nemesis` runs it for longer.

use std::{
    io::{Write as _, stderr},
    time::Duration,
};

use crate::nemesis::{self, Options};

#[test]
fn a_minute_of_faults_overlaps_nothing_and_somebody_leads_whenever_they_end() {
    let seed = nemesis::any_seed();
    let length = Duration::from_secs(60);
    // Not by a macro, whose words the test runner would keep to itself: the seed is wanted when the run is killed, too.
    let _ = writeln!(stderr(), "nemesis: cargo xtask nemesis --minutes 1 --seed {seed}");
    let options =
        Options { seed, length, beyond: false, program: crate::program().into(), say: |line| println!("{line}") };
    match nemesis::run(&options) {
        Ok(report) => println!("{report}"),
        Err(report) => panic!("{report}"),
    }
}
