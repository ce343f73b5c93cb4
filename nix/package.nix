{
  lib,
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
  inherit (stdenv) buildPlatform hostPlatform;
  pagesPlatform = if buildPlatform.canExecute hostPlatform then hostPlatform else buildPlatform;
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
      ../packaging/pages
      ../packaging/xtask
      ../tests
      # A test compares their tables with the program's own.
      ../docs
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

  # The program's own definition of its command line writes them; compiled apart, as the program itself must not have the
  # dependencies of the development. The pages are the same for every platform, so a cross build has them, too.
  postInstall = ''
    cargo run --offline --release --target ${pagesPlatform.rust.rustcTarget} --example pages -- pages
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
