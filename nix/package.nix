{
  lib,
  rustPlatform,
  protobuf,
}:
let
  # The version and the words are written once, in Cargo.toml.
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.workspace.package) version;

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
      # Its tables are compared with the program's own by a test.
      ../README.md
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;

  # etcd's protocol is compiled from its .proto files.
  nativeBuildInputs = [ protobuf ];

  # What needs real etcd clusters is a check of its own: it would only slow down everybody's build.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  meta = {
    inherit (manifest.package) description;
    homepage = manifest.workspace.package.repository;
    changelog = "${manifest.workspace.package.repository}/blob/v${manifest.workspace.package.version}/CHANGELOG.md";
    license = lib.licenses.asl20;
    mainProgram = manifest.package.name;
    # subreapers, parent-death signals, signalfd
    platforms = lib.platforms.linux;
  };
}
