{
  lib,
  runCommand,
  cargo,
  rustfmt,
}:
runCommand "rustfmt"
  {
    nativeBuildInputs = [
      cargo
      rustfmt
    ];
    src = lib.fileset.toSource {
      root = ../..;
      fileset = lib.fileset.unions [
        ../../.rustfmt.toml
        (lib.fileset.fileFilter (file: file.hasExt "rs" || file.name == "Cargo.toml") ../..)
      ];
    };
  }
  ''
    export CARGO_HOME="$TMPDIR"
    cd "$src"
    cargo fmt --all --check
    touch "$out"
  ''
