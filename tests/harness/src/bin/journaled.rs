//! The command that the tests gate, as a program of its own: as one static file it runs in machines that have an older C
//! library than the one that the tests were built with.

fn main() {
    harness::journaled::run();
}
