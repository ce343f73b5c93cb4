#!/usr/bin/env bash
# Checks the examples in packaging/container/ and the workflows in .github/ against their schemas and against the settings of
# this program. Needs Python, and PyPI once; Go, and its module proxy once, for Kustomize. Writes only to target/.
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
# What the component makes of a Deployment and of a StatefulSet.
if command -v go >/dev/null; then
  (cd packaging/ci/kustomize && CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$venv/bin/kustomize" tool)
  for kind in Deployment StatefulSet; do
    rm -rf "$venv/component"
    cp -r "$examples/kustomize" "$venv/component"
    sed -i "s/^\( *\)kind: Deployment$/\1kind: $kind/" "$venv/component/example"/*.yaml
    kustomize build "$venv/component/example" >"$venv/kustomized-$kind.yaml" || wrong "Kustomize refuses the component for a $kind"
    kubernetes-validate --strict "$venv/kustomized-$kind.yaml" || wrong "Kubernetes would refuse the $kind of the component"
  done
else
  rm -f "$venv"/kustomized-*.yaml
  skip "the component for Kustomize: Go is not on the PATH"
fi
# A schema does not say whether the command and its probes find the program that the init container installs.
"$venv/bin/python" - "$examples"/kubernetes-{wrap,migrate}.yaml "$venv"/kustomized-*.yaml <<'END' || wrong "an image is not wrapped correctly"
import os, sys, yaml
for name in filter(os.path.exists, sys.argv[1:]):
    workloads = [d for d in yaml.safe_load_all(open(name)) if "template" in d["spec"]]
    exempt = [d for d in workloads if "etcd-await-election/gate" in d["metadata"].get("annotations", {})]
    assert len(exempt) == ("kustomized" in name) and "etcd-await-election:1" not in str(exempt), name
    (pod,) = [d["spec"]["template"]["spec"] for d in workloads if d not in exempt]
    install, *others = pod["initContainers"]
    folder, (mount,) = install["args"][2], install["volumeMounts"]
    assert install["args"][:2] == ["ctl", "install"] and mount["mountPath"] == folder, name
    assert any(v["name"] == mount["name"] and "emptyDir" in v for v in pod["volumes"]), name
    for wrapped in others + pod["containers"]:
        assert wrapped["command"][0] == folder + "/etcd-await-election" and len(wrapped["command"]) > 1, name
        assert {**mount, "readOnly": True} in wrapped["volumeMounts"], name
        settings = {e["name"].removeprefix("ETCD_AWAIT_ELECTION_"): e for e in wrapped["env"]}
        assert {"LOCK_NAME", "ENDPOINTS", "IDENTITY"} <= settings.keys(), name
    port = int(settings["STATUS_ENDPOINT"]["value"].removeprefix(":"))
    ports = {p["name"]: p["containerPort"] for p in wrapped.get("ports", [])}
    for probe, path in ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz"):
        get = wrapped[probe]["httpGet"]
        assert get["path"] == path and ports.get(get["port"], get["port"]) == port, (name, probe)
END
check-jsonschema --builtin-schema vendor.compose-spec "$examples/compose.yaml" || wrong "Compose would refuse the example"
hcl2tojson "$examples/nomad.hcl" >/dev/null 2>&1 || wrong "$examples/nomad.hcl is not valid HCL"
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml || wrong "GitHub would refuse a workflow"
check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml || wrong "Dependabot would refuse its file"
# Finds actions that are not pinned, secrets that leak, needless permissions, and expressions in shell code.
zizmor --offline --quiet --no-progress . || wrong "a workflow is not safe"

# Jobs that publish wait for the reviewers of an environment, and all tools of a release are pinned: the compiler by
# rust-toolchain.toml, images by digest, Python packages by hash.
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
  wrong "a workflow uses the newest compiler instead of the pinned one"
fi
if grep --line-number --extended-regexp '(moby/buildkit|buildkit-syft-scanner)' .github/workflows/*.yml | grep --invert-match '@sha256:[0-9a-f]\{64\}'; then
  wrong "a workflow executes an image without a digest"
fi

# Every variable in an example is a setting of the program, by the table in docs/settings.md.
while read -r variable; do
  # These are variables of the command.
  case $variable in *_FENCING_TOKEN | *_LEADER_KEY | *_LEASE_ID) continue ;; esac
  grep --quiet "^| .* | \`$variable\` |" docs/settings.md || wrong "$variable: an example sets it, and there is no such setting"
done < <(grep --only-matching --no-filename --recursive 'ETCD_AWAIT_ELECTION_[A-Z_]*' "$examples" | sort --unique)

# The time limit for stopping an instance must cover STOP_GRACE and the handover.
handover=5
seconds() { sed --quiet "s/.*$2[^0-9]*\([0-9][0-9]*\).*/\1/p" "$examples/$1" | head -n 1; }
longer() {
  local grace stop
  # In Kubernetes the value is on the next line.
  grace=$(grep --after-context=1 'ETCD_AWAIT_ELECTION_STOP_GRACE' "$examples/$1" | grep --only-matching '"[0-9]*"' | tr -d '"')
  stop=$(seconds "$1" "$2")
  [ "$stop" -gt $((grace + handover)) ] || wrong "$1: $2 is $stop, with a STOP_GRACE of $grace"
}
longer kubernetes.yaml terminationGracePeriodSeconds:
longer kubernetes-wrap.yaml terminationGracePeriodSeconds:
longer kubernetes-migrate.yaml terminationGracePeriodSeconds:
longer compose.yaml stop_grace_period:
longer nomad.hcl kill_timeout
# With the default of STOP_GRACE.
grace=$(sed --quiet 's/.*`ETCD_AWAIT_ELECTION_STOP_GRACE` | `\([0-9]*\)`.*/\1/p' docs/settings.md)
stop=$(sed --quiet 's/.*--stop-timeout=\([0-9]*\).*/\1/p' docs/containers.md | sort --numeric-sort | head -n 1)
[ "$stop" -gt $((grace + handover)) ] || wrong "docs/containers.md: --stop-timeout is $stop, with a STOP_GRACE of $grace"

# The configuration of the proxy, if HAProxy is installed.
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
echo "the examples and the workflows are valid"
