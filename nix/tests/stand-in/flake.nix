{
  description = "Stands in for nixpkgs where it cannot be had, for `packaging/ci/nix.sh`: its real lib, put beside this file, and a pretence of the rest";

  outputs =
    _:
    let
      lib = import ./lib;
      packagesFor = system: import ./packages.nix { inherit lib system nixosSystem; };
      nixosSystem =
        {
          system,
          modules,
        }:
        lib.evalModules {
          modules = [
            ./nixos.nix
            { _module.args.pkgs = packagesFor system; }
          ]
          ++ modules;
        };
    in
    {
      lib = lib // {
        inherit nixosSystem;
      };
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] packagesFor;
    };
}
