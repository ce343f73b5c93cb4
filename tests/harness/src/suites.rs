//! The releases of Debian whose systemd the units are tested with. `cargo xtask` includes this file, too.

/// Calls a macro with the names of the suites, oldest first, and what else it is given: they are listed nowhere else.
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

/// Their names, oldest first.
pub const SUITES: &[&str] = with_suites!(names);
