# The packages for `nix build`, for one system.
{ pkgs }:
let
  etcd-await-election = pkgs.callPackage ./package.nix { };
in
{
  inherit etcd-await-election;
  default = etcd-await-election;
  # A static program for images and machines without Nix.
  static = pkgs.pkgsStatic.callPackage ./package.nix { };
  container = pkgs.callPackage ./container.nix {
    etcd-await-election = pkgs.pkgsStatic.callPackage ./package.nix { };
  };
}
