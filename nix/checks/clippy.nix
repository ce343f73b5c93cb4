{
  etcd-await-election,
  clippy,
}:
etcd-await-election.overrideAttrs (previous: {
  pname = "${previous.pname}-clippy";
  nativeBuildInputs = previous.nativeBuildInputs ++ [ clippy ];
  buildPhase = ''
    runHook preBuild
    cargo clippy --workspace --all-targets --offline -- --deny warnings
    runHook postBuild
  '';
  doCheck = false;
  doInstallCheck = false;
  installPhase = "touch $out";
})
