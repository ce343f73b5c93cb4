#!/usr/bin/env bash
# Usage: etcd.sh VERSION SHA256 FOLDER: downloads a release of etcd for amd64, checks it and unpacks it into FOLDER.
set -euo pipefail
version=$1 sha256=$2 folder=$3
archive=etcd-v$version-linux-amd64.tar.gz
mkdir -p "$folder"
curl --fail --silent --show-error --location --retry 3 --output "$folder/$archive" \
  "https://github.com/etcd-io/etcd/releases/download/v$version/$archive"
echo "$sha256  $folder/$archive" | sha256sum --check
tar --extract --gzip --strip-components 1 --file "$folder/$archive" --directory "$folder"
