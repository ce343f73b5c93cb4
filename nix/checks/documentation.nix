# The documentation of the crate describes the architecture; its links must be valid.
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
