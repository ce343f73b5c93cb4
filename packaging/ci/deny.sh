#!/usr/bin/env bash
# What is in the program: licences, advisories, duplicates, sources, as .deny.toml wants them.
set -euo pipefail
cd "$(dirname "$0")/../.."

CARGO_DENY=0.20.2

skip() {
  printf 'SKIPPED: %s\n' "$*"
}

# Building it takes minutes: by itself only on a machine that is there for this.
export PATH="$PWD/target/tools/bin:$PATH"
if ! command -v cargo-deny >/dev/null; then
  if [ -z "${CI:-}" ]; then
    skip "licences, advisories, duplicates, sources: cargo install --locked cargo-deny@$CARGO_DENY"
    exit 0
  fi
  cargo install --quiet --locked --root target/tools "cargo-deny@$CARGO_DENY"
fi

# A duplicate that is not there any more must leave the list.
cargo deny --locked check --deny unmatched-skip bans licenses sources

if cargo deny fetch db 2>/dev/null; then
  cargo deny --locked check advisories
else
  skip "advisories: their data base, https://github.com/rustsec/advisory-db, cannot be reached"
fi
