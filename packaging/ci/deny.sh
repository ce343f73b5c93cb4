#!/usr/bin/env bash
# Checks the dependencies of the program against .deny.toml: licenses, advisories, duplicates, sources.
set -euo pipefail
cd "$(dirname "$0")/../.."

CARGO_DENY=0.20.2

skip() {
  printf 'SKIPPED: %s\n' "$*"
}

# Building cargo-deny takes minutes, so it is only built on CI machines.
export PATH="$PWD/target/tools/bin:$PATH"
if ! command -v cargo-deny >/dev/null; then
  if [ -z "${CI:-}" ]; then
    skip "licenses, advisories, duplicates, sources: cargo-deny is missing; cargo install --locked cargo-deny@$CARGO_DENY"
    exit 0
  fi
  cargo install --quiet --locked --root target/tools "cargo-deny@$CARGO_DENY"
fi

# A duplicate that does not exist any more must be removed from the list.
cargo deny --locked check --deny unmatched-skip bans licenses sources

if cargo deny fetch db 2>/dev/null; then
  cargo deny --locked check advisories
else
  skip "advisories: could not fetch https://github.com/rustsec/advisory-db"
fi
