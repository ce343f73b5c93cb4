# What the NixOS module makes of settings, found out by evaluation alone: nothing is booted, and what is built is an empty
# file. A wrong answer ends the evaluation.
{
  lib,
  runCommand,
  stdenv,
  self,
  nixpkgs,
}:
let
  inherit (stdenv.hostPlatform) system;

  evaluate =
    modules:
    (nixpkgs.lib.nixosSystem {
      inherit system;
      modules = [
        self.nixosModules.default
        { system.stateVersion = "26.05"; }
      ]
      ++ modules;
    }).config;

  wrong =
    lib.concatMap
      (
        file:
        map (failure: "${baseNameOf file}: ${failure}") (
          import file {
            inherit lib evaluate;
            program = lib.getExe self.packages.${system}.default;
          }
        )
      )
      (lib.filter (file: lib.hasSuffix ".nix" file) (lib.filesystem.listFilesRecursive ../tests/module));
in
if wrong == [ ] then
  runCommand "module" { } ''touch "$out"''
else
  throw ("\n" + lib.concatStringsSep "\n" wrong)
