# The crate's documentation is the architecture: its links must lead somewhere.
{ etcd-await-election }:
etcd-await-election.overrideAttrs (previous: {
  pname = "${previous.pname}-documentation";
  env = previous.env or { } // {
    RUSTDOCFLAGS = "--deny warnings";
  };
  buildPhase = ''
    runHook preBuild
    cargo doc --workspace --no-deps --offline --document-private-items
    runHook postBuild
  '';
  doCheck = false;
  doInstallCheck = false;
  installPhase = "cp -r target/doc $out";
})
