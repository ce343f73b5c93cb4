#!/usr/bin/env bash
# The examples in packaging/container/ and the workflows in .github/: against the schemas of those who will read them, and
# against this program's own settings. Needs Python, and PyPI once; nothing is left behind outside of target/.
set -euo pipefail
cd "$(dirname "$0")/../.."

examples=packaging/container
requirements=packaging/ci/requirements.txt
venv=$PWD/target/manifests

skip() {
  printf 'SKIPPED: %s\n' "$*"
}

wrong() {
  printf '%s\n' "$*" >&2
  failed=yes
}
failed=

if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
  skip "the examples and the workflows: python3-venv is needed"
  exit 0
fi
if ! cmp --quiet "$requirements" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$requirements"
  cp "$requirements" "$venv/requirements.txt"
fi
PATH=$venv/bin:$PATH

kubernetes-validate --strict "$examples"/kubernetes*.yaml || wrong "Kubernetes would refuse an example"
check-jsonschema --builtin-schema vendor.compose-spec "$examples/compose.yaml" || wrong "Compose would refuse the example"
hcl2tojson "$examples/nomad.hcl" >/dev/null 2>&1 || wrong "$examples/nomad.hcl is no HCL"
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml || wrong "GitHub would refuse a workflow"
check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml || wrong "Dependabot would refuse its file"
# Actions that are not pinned, secrets that leak, permissions that nobody needs, expressions in shell.
zizmor --offline --quiet --no-progress . || wrong "a workflow is not safe"

# What publishes waits for the reviewers of an environment, and what is executed on the way to a release cannot change: the
# compiler is rust-toolchain.toml's, images are named with their digests, Python packages have hashes.
"$venv/bin/python" - <<'END' || wrong "the release is not as protected as it must be"
import sys, yaml
jobs = yaml.safe_load(open(".github/workflows/release.yml"))["jobs"]
writes = lambda job: "write" in (job.get("permissions") or {}).values()
found = [f"{name}: no environment" for name, job in jobs.items() if writes(job) and job.get("environment") != "release"]
if not any(map(writes, jobs.values())):
    found.append("no job publishes")
sys.exit("\n".join(found) or None)
END
if grep --line-number --extended-regexp 'toolchain install stable|rustup default' .github/workflows/*.yml; then
  wrong "a workflow takes whatever compiler is the newest"
fi
if grep --line-number --extended-regexp '(moby/buildkit|buildkit-syft-scanner)' .github/workflows/*.yml | grep --invert-match '@sha256:[0-9a-f]\{64\}'; then
  wrong "a workflow executes an image without a digest"
fi

# Every setting in an example is one that the program has, as the table in docs/settings.md lists them.
while read -r variable; do
  # The command gets these.
  case $variable in *_FENCING_TOKEN | *_LEADER_KEY | *_LEASE_ID) continue ;; esac
  grep --quiet "^| .* | \`$variable\` |" docs/settings.md || wrong "$variable: an example sets it, and there is no such setting"
done < <(grep --only-matching --no-filename --recursive 'ETCD_AWAIT_ELECTION_[A-Z_]*' "$examples" | sort --unique)

# Who stops an instance has to wait for STOP_GRACE and for the hand-over (`patience_at_the_end`).
hand_over=5
seconds() { sed --quiet "s/.*$2[^0-9]*\([0-9][0-9]*\).*/\1/p" "$examples/$1" | head -n 1; }
longer() {
  local grace stop
  # In Kubernetes the value has a line of its own.
  grace=$(grep --after-context=1 'ETCD_AWAIT_ELECTION_STOP_GRACE' "$examples/$1" | grep --only-matching '"[0-9]*"' | tr -d '"')
  stop=$(seconds "$1" "$2")
  [ "$stop" -gt $((grace + hand_over)) ] || wrong "$1: $2 is $stop, with a STOP_GRACE of $grace"
}
longer kubernetes.yaml terminationGracePeriodSeconds:
longer compose.yaml stop_grace_period:
longer nomad.hcl kill_timeout
# With the default of STOP_GRACE.
grace=$(sed --quiet 's/.*`ETCD_AWAIT_ELECTION_STOP_GRACE` | `\([0-9]*\)`.*/\1/p' docs/settings.md)
stop=$(sed --quiet 's/.*--stop-timeout=\([0-9]*\).*/\1/p' docs/containers.md | sort --numeric-sort | head -n 1)
[ "$stop" -gt $((grace + hand_over)) ] || wrong "docs/containers.md: --stop-timeout is $stop, with a STOP_GRACE of $grace"

# The configuration of the proxy, where HAProxy is.
if command -v haproxy >/dev/null; then
  python=$venv/bin/python
  "$python" - "$examples/kubernetes-service.yaml" <<'END' >"$venv/haproxy.cfg"
import sys, yaml
print(next(d["data"]["haproxy.cfg"] for d in yaml.safe_load_all(open(sys.argv[1])) if d["kind"] == "ConfigMap"))
END
  haproxy -c -q -f "$venv/haproxy.cfg" || wrong "HAProxy refuses its configuration"
else
  skip "HAProxy's configuration: haproxy is not installed"
fi

[ -z "$failed" ] || exit 1
echo "the examples and the workflows are as they should be"
