//! Whole machines: what ships, in containers of a real engine, some with systemd as PID 1, against a real cluster.
//!
//! Run by `cargo xtask verify`, which also says what a machine lacks for it.

/// Makes a test for each suite of Debian from functions that are given one: `trixie::NAME` beside `NAME`.
macro_rules! on_each_suite {
    ($($function:ident)*) => {
        harness::with_suites! { suites_times_tests ($($function)*) }
    };
}

macro_rules! suites_times_tests {
    ([$($suite:ident)*] $functions:tt) => {
        $(tests_on_suite! { $suite $functions })*
    };
}

macro_rules! tests_on_suite {
    ($suite:ident ($($function:ident)*)) => {
        mod $suite {
            $(#[test]
            fn $function() {
                super::$function(stringify!($suite));
            })*
        }
    };
}

mod containers;
mod engine;
mod etcd;
mod gated;
mod packages;
mod systemd;

/// The command of the other tests: this binary, started again; see `harness::journaled`. Does nothing in a run of the
/// tests.
#[test]
#[ignore = "not a test"]
fn journaled() {
    harness::journaled::run();
}
