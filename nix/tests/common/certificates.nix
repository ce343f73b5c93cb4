# A CA with certificates for the members of etcd and for clients, created when the test is built.
{ pkgs, members }:
pkgs.runCommand "certificates" { nativeBuildInputs = [ pkgs.openssl ]; } ''
  mkdir "$out"
  cd "$out"

  key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1-key.pem"
  }

  # NAME USAGE [SUBJECT-ALT-NAMES]
  signed() {
    key "$1"
    openssl req -new -key "$1-key.pem" -subj "/CN=$1" -out "$TMPDIR/$1.csr"
    {
      echo basicConstraints=critical,CA:FALSE
      echo keyUsage=critical,digitalSignature
      echo "extendedKeyUsage=$2"
      if [ -n "''${3-}" ]; then echo "subjectAltName=$3"; fi
    } >"$TMPDIR/$1.ext"
    openssl x509 -req -in "$TMPDIR/$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -CAserial "$TMPDIR/serial" \
      -days 3650 -extfile "$TMPDIR/$1.ext" -out "$1.pem"
  }

  key ca
  openssl req -x509 -new -key ca-key.pem -subj /CN=ca -days 3650 -addext keyUsage=critical,keyCertSign -out ca.pem
  # Members are also clients of each other.
  signed member serverAuth,clientAuth ${
    pkgs.lib.concatMapStringsSep "," (member: "DNS:${member}") members
  },IP:127.0.0.1
  signed client clientAuth
''
