{
  lib,
  runCommand,
  nixfmt,
}:
runCommand "nixfmt"
  {
    nativeBuildInputs = [ nixfmt ];
    src = lib.fileset.toSource {
      root = ../..;
      fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../..;
    };
  }
  ''
    find "$src" -name '*.nix' -exec nixfmt --check {} +
    touch "$out"
  ''
