//! Writes the failover times that `cargo xtask verify` measured into the documents.

fn main() -> Result<(), String> {
    harness::failover::document()
}
