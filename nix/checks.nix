# `nix flake check` for one system. Packages, shells and check files are found by name, so that none is forgotten.
{
  self,
  nixpkgs,
  pkgs,
}:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;

  nixFilesIn =
    directory:
    lib.mapAttrs' (file: _: lib.nameValuePair (lib.removeSuffix ".nix" file) (directory + "/${file}")) (
      lib.filterAttrs (file: kind: kind == "regular" && lib.hasSuffix ".nix" file) (
        builtins.readDir directory
      )
    );
  prefixed = prefix: lib.mapAttrs' (name: lib.nameValuePair "${prefix}-${name}");

  arguments = {
    inherit self nixpkgs;
    etcd-await-election = self.packages.${system}.default;
  };
in
prefixed "package" self.packages.${system}
// prefixed "shell" self.devShells.${system}
// lib.mapAttrs (
  _: file: pkgs.callPackage file (builtins.intersectAttrs (lib.functionArgs (import file)) arguments)
) (nixFilesIn ./checks)
// prefixed "nixos" self.packages.${system}.default.tests
