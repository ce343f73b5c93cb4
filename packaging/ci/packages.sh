#!/usr/bin/env bash
# What `cargo xtask dist` has made, read by those who will get it: dpkg, lintian, rpm, rpmlint, tar, man and the shells.
# Nothing is installed on this machine but these tools, and they only where CI is set.
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

# Prints what is missing, by the names of Debian's packages.
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
  skip "the packages: these are needed: ${packages[*]}"
  exit 0
fi

shopt -s nullglob
debs=("$dist"/*.deb) rpms=("$dist"/*.rpm) archives=("$dist"/*.tar.gz)
for kind in debs rpms archives; do
  declare -n files=$kind
  [ ${#files[@]} -gt 0 ] || fail "there are no $kind in $dist: cargo xtask dist --without-sbom"
done
rm -rf "$work"

# The same program for the same architecture, whatever it came in.
same_program() {
  local package=$1 unpacked=$2 arch=$3
  cmp "$dist/$arch/etcd-await-election" "$unpacked" || fail "$package has another program than $dist/$arch"
}

# The terms of what the program is made of go with it.
with_licences() {
  grep --quiet '^tokio v' "$1/crates.txt" && [ -s "$1/rust.html" ] || fail "$1 lacks the licences of the crates"
}

lintian --allow-root --fail-on error,warning "${debs[@]}"
for deb in "${debs[@]}"; do
  root=$work/$(basename "$deb")
  mkdir -p "$root"
  dpkg-deb --extract "$deb" "$root"
  same_program "$deb" "$root/usr/bin/etcd-await-election" "$(dpkg-deb --field "$deb" Architecture)"
  with_licences "$root/usr/share/doc/etcd-await-election/licences"
done
echo "lintian has nothing to say of ${debs[*]}"

rpmlint --config packaging/rpm/rpmlint.toml --strict "${rpms[@]}" || fail "see packaging/rpm/rpmlint.toml"
for rpm in "${rpms[@]}"; do
  root=$PWD/$work/$(basename "$rpm")
  mkdir -p "$root"
  rpm --checksig --nosignature "$rpm"
  # From a file of its own: see packaging/rpm/etcd-await-election.spec.
  script=$(rpm --query --package --queryformat '%{PREUN}' "$rpm")
  bash -n <<<"$script"
  [[ $script == *"units start the program that is being removed"* ]] || fail "$rpm names nothing that needs the program"
  rpm --root "$root" --initdb
  # There is no shell in there for the scripts.
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

# Asks the shell itself.
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

echo "packages, manual page and completions are as they should be"
