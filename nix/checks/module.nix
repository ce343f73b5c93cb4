# Tests of the NixOS module by evaluation alone: nothing is booted, and only an empty file is built. A failure ends the
# evaluation.
{
  lib,
  runCommand,
  stdenv,
  self,
  nixpkgs,
}:
let
  inherit (stdenv.hostPlatform) system;

  system' =
    modules:
    nixpkgs.lib.nixosSystem {
      inherit system;
      modules = [
        self.nixosModules.default
        { system.stateVersion = "26.05"; }
      ]
      ++ modules;
    };

  files = lib.filter (lib.hasSuffix ".nix") (
    map toString (lib.filesystem.listFilesRecursive ../tests/module)
  );
  results = map (
    file:
    {
      name = baseNameOf file;
    }
    // import file {
      inherit lib;
      evaluate = modules: (system' modules).config;
      evaluateOptions = modules: (system' modules).options;
      package = self.packages.${system}.default;
      program = lib.getExe self.packages.${system}.default;
    }
  ) files;

  wrong = lib.concatMap ({ name, wrong, ... }: map (failure: "${name}: ${failure}") wrong) results;
in
if wrong == [ ] then
  runCommand "module" {
    # For systemd-analyze(1), see packaging/ci/nix.sh.
    passthru.units = lib.mergeAttrsList (map (result: result.units or { }) results);
  } ''touch "$out"''
else
  throw ("\n" + lib.concatStringsSep "\n" wrong)
