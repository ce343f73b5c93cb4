{
  description = "Runs a command only while it holds leadership in an etcd election";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem =
        f:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: f nixpkgs.legacyPackages.${system});
    in
    {
      overlays.default = final: _prev: {
        etcd-await-election = final.callPackage ./nix/package.nix { };
      };

      packages = eachSystem (pkgs: import ./nix/packages.nix { inherit pkgs; });

      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./nix/module.nix ];
          # The module then works without the overlay.
          services.etcd-await-election.package =
            lib.mkDefault
              self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };

      checks = eachSystem (pkgs: import ./nix/checks.nix { inherit self nixpkgs pkgs; });

      devShells = eachSystem (pkgs: {
        default = pkgs.callPackage ./nix/devshell.nix { };
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
