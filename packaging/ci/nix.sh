#!/usr/bin/env bash
# Evaluates the flake on a Debian machine without Nix: the package, the dev shell, every check, and the NixOS module with
# its tests. Then the systemd of this machine verifies the units of the module. Nothing is built, and only target/ is
# written to. The last lines say what was real, what was a mock, and what was SKIPPED.
#
#   packaging/ci/nix.sh
#   NIXPKGS_LIB=DIR packaging/ci/nix.sh   with DIR holding nixpkgs' lib/, instead of fetching it
#
# nixpkgs' lib is the real one; nix/tests/stand-in replaces the rest of nixpkgs. If you can download nixpkgs, run
# `nix flake check` instead.
set -euo pipefail
cd "$(dirname "$0")/../.."

# https://github.com/nix-community/nixpkgs.lib: nixpkgs' lib/, and nothing else, by commit.
LIB_REPOSITORY=https://github.com/nix-community/nixpkgs.lib
LIB_COMMIT=de42d44212d207476489bce163375d8306a26d59
# The first Debian suite whose Nix is new enough.
SUITE=forky

target=$PWD/target
root=$target/nix-root
work=$root/checks

skip() {
  printf 'SKIPPED: %s\n' "$*"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo --non-interactive "$@"; fi
}

if ! as_root true 2>/dev/null; then
  skip "the evaluation of the flake: it needs root, for a chroot with Nix"
  exit 0
fi

# In a chroot, so that no packages of another release are installed on this machine. It is kept for the next run.
if [ ! -x "$root/usr/bin/nix" ]; then
  command -v mmdebstrap >/dev/null || as_root apt-get install --yes --no-install-recommends mmdebstrap
  # The Debian mirror of this machine.
  # shellcheck disable=SC2016 # the dollar is apt's
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep --invert-match security | head -n 1)
  # Expired package lists are accepted: the packages are signed, and a frozen mirror has no newer lists.
  mkdir -p "$target"
  as_root rm -rf "$root.new" "$root"
  as_root mmdebstrap --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include=nix-bin "$SUITE" "$root.new" "$mirror"
  as_root mkdir -p "$root.new/etc/nix"
  printf '%s\n' 'experimental-features = nix-command flakes' 'build-users-group =' 'substituters =' 'sandbox = false' |
    as_root tee "$root.new/etc/nix/nix.conf" >/dev/null
  as_root mv "$root.new" "$root"
fi

# Runs a command in the chroot, with a /proc that is unmounted with the namespace.
in_root() {
  # shellcheck disable=SC2016 # the arguments are the inner shell's
  as_root unshare --mount sh -euc 'mount -t proc proc "$1/proc"; root=$1; shift; exec chroot "$root" "$@"' sh \
    "$root" env --ignore-environment HOME=/root PATH=/usr/bin:/bin "$@"
}

# The files of the flake: all that git tracks or would add.
as_root rm -rf "$work"
as_root mkdir -p "$work/flake" "$work/nixpkgs"
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
  tar --create --null --files-from - | as_root tar --extract --no-same-owner --directory "$work/flake"

# nixfmt is not packaged in Debian.
if command -v nixfmt >/dev/null; then
  git ls-files -z --cached --others --exclude-standard '*.nix' | xargs --null nixfmt --check
  echo "nixfmt: all Nix files are formatted"
else
  skip "the format of the Nix files: there is no nixfmt on this machine"
fi

lib=${NIXPKGS_LIB:-}
if [ -z "$lib" ]; then
  lib=$target/nixpkgs.lib
  if [ ! -d "$lib/lib" ]; then
    rm -rf "$lib"
    git init --quiet "$lib"
    if timeout 120 git -C "$lib" fetch --quiet --depth 1 "$LIB_REPOSITORY" "$LIB_COMMIT"; then
      git -C "$lib" checkout --quiet FETCH_HEAD
    fi
  fi
fi

if [ ! -d "$lib/lib" ]; then
  find "$work/flake" -name '*.nix' -printf '/checks/flake/%P\0' |
    while IFS= read -r -d '' file; do in_root nix-instantiate --parse "$file" </dev/null >/dev/null; done
  echo "all Nix files can be parsed"
  skip "the evaluation of the flake: could not get nixpkgs' lib from $LIB_REPOSITORY; set NIXPKGS_LIB to a copy"
  exit 0
fi

as_root cp -r nix/tests/stand-in/. "$lib/lib" "$work/nixpkgs/"
with_stand_in=(--override-input nixpkgs path:/checks/nixpkgs --no-write-lock-file)

in_root nix --offline flake check path:/checks/flake --no-build --all-systems "${with_stand_in[@]}"

# The mock must refuse what nixpkgs would refuse. This tries one misspelled name at a time.
refuses() {
  local file=$1 right=$2 wrong=$3 check=$4
  as_root rm -rf "$work/typo"
  as_root cp -r "$work/flake" "$work/typo"
  as_root sed --in-place "s/$right/$wrong/" "$work/typo/$file"
  if cmp --quiet "$work/flake/$file" "$work/typo/$file"; then
    echo "$file has no \"$right\" any more: correct packaging/ci/nix.sh"
    exit 1
  fi
  if in_root nix --offline eval "path:/checks/typo#checks.x86_64-linux.$check.drvPath" "${with_stand_in[@]}" >/dev/null 2>&1; then
    echo "the stand-in accepts \"$wrong\" for \"$right\" in $file"
    exit 1
  fi
}
refuses nix/package.nix __structuredAttrs __structuredAttr package
refuses nix/package.nix mainProgram mainProgramm package
refuses nix/package.nix nix-update-script nix-update-scripts package
refuses nix/module.nix 'meta = {' 'metadata = {' module
refuses nix/module/instances.nix 'wantedBy = ' 'wantdBy = ' module
refuses nix/tests/instance.nix 'etcd.enable = true' 'etcd.enable = 1' nixos-instance
refuses nix/tests/instance.nix containers container nixos-instance
refuses nix/tests/instance.nix 'etcd.enable' 'etcd.enabled' nixos-instance
refuses nix/tests/failover.nix 'stopGrace = 5' 'stopGrace = true' nixos-failover
refuses nix/tests/common/member.nix clientCertAuth clientCertAuthentication nixos-failover
as_root rm -rf "$work/typo"

cat <<'END'
real: Nix's parser, evaluator and flake schema; nixpkgs' lib with the module system; this flake, its module and tests
mock (nix/tests/stand-in): nixpkgs' packages and builders, NixOS's options, the test driver
END
skip "the builds, the image and nixosTests (a VM and a container): they need nixpkgs itself; run nix flake check"

if ! command -v systemd-analyze >/dev/null; then
  skip "the units: this machine has no systemd-analyze"
  exit 0
fi
as_root rm -rf "$target/units"
in_root nix --offline eval path:/checks/flake#checks.x86_64-linux.module.units --write-to /checks/units "${with_stand_in[@]}"
as_root cp -r "$work/units" "$target/units"
as_root chown -R "$(id -u)" "$target/units"
cd "$target/units"
for unit in *; do
  # Nothing was built, so the paths of the program and of the reload's shell do not exist.
  sed --in-place 's|/nix/store/[^ ]*/bin/etcd-await-election|/bin/true|; s|^ExecReload=/nix/store/[^ ]*/bin/|ExecReload=/bin/|' "$unit"
  # A template is verified as an instance.
  instance=${unit/@./@instance.}
  [ "$instance" = "$unit" ] || mv "$unit" "$instance"
  # The exit code is 0 also for unknown names and bad values.
  said=$(systemd-analyze verify "./$instance" 2>&1) || said=${said:-failed}
  if [ -n "$said" ]; then
    printf '%s: %s\n' "$instance" "$said"
    exit 1
  fi
done
echo "real: systemd $(systemctl --version | awk 'NR == 1 {print $2}') accepts all units of the module's tests"
