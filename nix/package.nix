{
  lib,
  buildPackages,
  stdenv,
  rustPlatform,
  installShellFiles,
  nix-update-script,
  protobuf,
  testers,
  versionCheckHook,
}:
let
  # The version and the words are written once, in Cargo.toml.
  manifest = lib.importTOML ../Cargo.toml;
  inherit (stdenv) hostPlatform;
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = manifest.package.name;
  inherit (manifest.workspace.package) version;

  __structuredAttrs = true;
  strictDeps = true;

  # Only what cargo and the tests read, so that a change of the Nix files or of the packaging builds nothing anew. The
  # members of the workspace belong to it: without their manifests cargo refuses the lock file.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../packaging/xtask
      ../tests
      # A test compares these with the program's own settings.
      ../docs
      ../nix/module/settings.json
      ../packaging/systemd/example.env
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;

  # etcd's protocol is compiled from its .proto files.
  nativeBuildInputs = [
    installShellFiles
    protobuf
  ];

  # What needs real etcd clusters is a check of its own: it would only slow down everybody's build.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  # The program writes them itself; one for another platform does so in an emulator.
  postInstall = lib.optionalString (hostPlatform.emulatorAvailable buildPackages) ''
    ${hostPlatform.emulator buildPackages} $out/bin/${finalAttrs.meta.mainProgram} ctl pages pages
    installManPage pages/etcd-await-election.1
    installShellCompletion --bash pages/etcd-await-election.bash --zsh pages/_etcd-await-election \
      --fish pages/etcd-await-election.fish
  '';

  nativeInstallCheckInputs = [ versionCheckHook ];
  doInstallCheck = true;

  passthru = {
    tests = import ./tests.nix {
      inherit testers;
      package = finalAttrs.finalPackage;
    };
    # For a copy in nixpkgs: here the version follows Cargo.toml.
    updateScript = nix-update-script { };
  };

  meta = {
    inherit (manifest.package) description;
    homepage = manifest.workspace.package.repository;
    changelog = "${finalAttrs.meta.homepage}/blob/v${finalAttrs.version}/CHANGELOG.md";
    license = lib.licenses.asl20;
    # A placeholder: in nixpkgs, whoever submits the package stands here with their entry of lib.maintainers.
    maintainers = [ { name = "placeholder, see nix/package.nix"; } ];
    mainProgram = manifest.package.name;
    # subreapers, parent-death signals, signalfd
    platforms = lib.platforms.linux;
  };
})
