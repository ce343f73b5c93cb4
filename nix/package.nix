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
  # The version and the description are written once, in Cargo.toml.
  manifest = lib.importTOML ../Cargo.toml;
  inherit (stdenv) hostPlatform;
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = manifest.package.name;
  inherit (manifest.workspace.package) version;

  __structuredAttrs = true;
  strictDeps = true;

  # Only files that cargo and the tests read, so that other changes do not cause a rebuild. Without the manifests of all
  # workspace members, cargo refuses the lock file.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../packaging/xtask
      ../tests
      # A test compares these with the settings of the program.
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

  # The tests with real etcd clusters are a separate check (checks/integration.nix), so that builds stay fast.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  # The program writes its manual page and completions itself; a cross build runs it in an emulator.
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
    # A placeholder: in nixpkgs, the submitter of the package puts their entry of lib.maintainers here.
    maintainers = [ { name = "placeholder, see nix/package.nix"; } ];
    mainProgram = manifest.package.name;
    # The program uses subreapers, parent-death signals and signalfd.
    platforms = lib.platforms.linux;
  };
})
