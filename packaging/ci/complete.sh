#!/usr/bin/env bash
# Runs a check, and fails also if it skips something: for machines that have to have everything.
#
#   packaging/ci/complete.sh COMMAND …
set -euo pipefail

said=$(mktemp)
trap 'rm -f "$said"' EXIT
"$@" 2>&1 | tee "$said"
if grep --quiet '^SKIPPED: ' "$said"; then
  echo "nothing may be skipped here" >&2
  exit 1
fi
