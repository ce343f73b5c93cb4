//! The Debian releases with whose systemd the units are tested. `cargo xtask` includes this file as well.

/// Calls a macro with the names of the suites, oldest first, and its further arguments.
#[macro_export]
macro_rules! with_suites {
    ($macro:ident $($rest:tt)*) => {
        $macro! { [bookworm trixie forky] $($rest)* }
    };
}

macro_rules! names {
    ([$($suite:ident)*]) => {
        &[$(stringify!($suite)),*]
    };
}

/// The names of the suites, oldest first.
pub const SUITES: &[&str] = with_suites!(names);
