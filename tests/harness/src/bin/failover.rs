//! Writes the table of what `cargo xtask verify` measured into the documents.

fn main() -> Result<(), String> {
    harness::failover::document()
}
