#!/usr/bin/env bash
# Checks the output of `cargo xtask dist` with dpkg, lintian, rpm, rpmlint, tar, man and the shells. Missing tools are
# installed only if CI is set; nothing else is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

dist=target/dist
work=target/packaging/checked

skip() {
  printf 'SKIPPED: %s\n' "$*"
}

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Prints the missing tools, by the names of their Debian packages.
missing() {
  local tool
  for tool in lintian rpm rpmlint zsh fish man:man-db; do
    command -v "${tool%:*}" >/dev/null || printf '%s\n' "${tool#*:}"
  done
}

mapfile -t packages < <(missing)
if [ ${#packages[@]} -gt 0 ] && [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  mapfile -t packages < <(missing)
fi
if [ ${#packages[@]} -gt 0 ]; then
  skip "the packages: these tools are missing: ${packages[*]}"
  exit 0
fi

shopt -s nullglob
debs=("$dist"/*.deb) rpms=("$dist"/*.rpm) archives=("$dist"/*.tar.gz)
for kind in debs rpms archives; do
  declare -n files=$kind
  [ ${#files[@]} -gt 0 ] || fail "there are no $kind in $dist: cargo xtask dist --without-sbom"
done
rm -rf "$work"

# Fails unless a package has the same program as all others of its architecture.
same_program() {
  local package=$1 unpacked=$2 arch=$3
  cmp "$dist/$arch/etcd-await-election" "$unpacked" || fail "$package contains a different program than $dist/$arch"
}

# Fails unless a package has the licenses of the dependencies.
with_licences() {
  grep --quiet '^tokio v' "$1/crates.txt" && [ -s "$1/rust.html" ] || fail "$1 lacks the licenses of the crates"
}

lintian --allow-root --fail-on error,warning "${debs[@]}"
for deb in "${debs[@]}"; do
  root=$work/$(basename "$deb")
  mkdir -p "$root"
  dpkg-deb --extract "$deb" "$root"
  same_program "$deb" "$root/usr/bin/etcd-await-election" "$(dpkg-deb --field "$deb" Architecture)"
  with_licences "$root/usr/share/doc/etcd-await-election/licences"
done
echo "lintian accepts ${debs[*]}"

rpmlint --config packaging/rpm/rpmlint.toml --strict "${rpms[@]}" || fail "see packaging/rpm/rpmlint.toml"
for rpm in "${rpms[@]}"; do
  root=$PWD/$work/$(basename "$rpm")
  mkdir -p "$root"
  rpm --checksig --nosignature "$rpm"
  # The script is inserted from packaging/removal.sh: see packaging/rpm/etcd-await-election.spec.
  script=$(rpm --query --package --queryformat '%{PREUN}' "$rpm")
  bash -n <<<"$script"
  [[ $script == *"units start the program that is being removed"* ]] || fail "$rpm does not name the units that need the program when it is removed"
  rpm --root "$root" --initdb
  # The empty root has no shell for the scripts.
  rpm --force-debian --root "$root" --install --nodeps --noscripts --ignorearch "$rpm"
  case $(rpm --query --package --queryformat '%{ARCH}' "$rpm") in x86_64) arch=amd64 ;; *) arch=arm64 ;; esac
  same_program "$rpm" "$root/usr/bin/etcd-await-election" "$arch"
  with_licences "$root/usr/share/licenses/etcd-await-election"
  rpm --force-debian --root "$root" --verify --nodeps etcd-await-election
  rpm --force-debian --root "$root" --erase --nodeps --noscripts etcd-await-election
  [ ! -e "$root/usr/bin/etcd-await-election" ] || fail "$rpm leaves its program behind"
done

for archive in "${archives[@]}"; do
  mkdir -p "$work/tar"
  tar --extract --file "$archive" --directory "$work/tar"
  name=$(basename "$archive" .tar.gz)
  same_program "$archive" "$work/tar/$name/bin/etcd-await-election" "${name##*-}"
  with_licences "$work/tar/$name/licences"
done

root=$work/$(basename "${debs[0]}")
said=$(man --warnings --local-file "$root/usr/share/man/man1/etcd-await-election.1.gz" 2>&1 >/dev/null)
[ -z "$said" ] || fail "the manual page: $said"
zsh --no-exec "$root/usr/share/zsh/vendor-completions/_etcd-await-election"
fish --no-execute "$root/usr/share/fish/vendor_completions.d/etcd-await-election.fish"

# Fails unless the output of a shell's completion has a word.
expect() {
  [[ $2 == *"$1"* ]] || fail "$3 does not offer $1, but: $2"
}
# shellcheck disable=SC2016 # the variables are the inner shells'
offered=$(bash -euc 'source "$1"
  COMP_WORDS=(etcd-await-election "$2" "$3") COMP_CWORD=2
  function=$(complete -p etcd-await-election | sed -E "s/.*-F ([^ ]+) .*/\1/")
  $function etcd-await-election "$3" "$2"
  echo "${COMPREPLY[@]}"' bash "$root/usr/share/bash-completion/completions/etcd-await-election" --on-loss "")
expect "exit campaign" "$offered" bash
offered=$(fish --no-config --command "source $root/usr/share/fish/vendor_completions.d/etcd-await-election.fish
  complete --do-complete 'etcd-await-election --lock-n'")
expect "--lock-name" "$offered" fish

echo "packages, manual page and completions are valid"
