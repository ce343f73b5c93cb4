# As much of a package set as the flake asks for. Nothing here can be built; it can be evaluated.
{
  lib,
  system,
  nixosSystem,
}:
let
  fake =
    attributes:
    let
      name = attributes.name or "${attributes.pname}-${attributes.version}";
      derivation' = derivation {
        inherit name system;
        builder = "/pretended";
        # What the package is made of, so that everything in it is evaluated.
        contents = builtins.toJSON (
          removeAttrs attributes [
            "meta"
            "passthru"
          ]
        );
      };
    in
    derivation'
    // lib.filterAttrs (attribute: _: !(derivation' ? ${attribute})) attributes
    // attributes.passthru or { }
    // {
      meta = attributes.meta or { };
      overrideAttrs = change: fake (attributes // change attributes);
    };
  package =
    pname:
    fake {
      inherit pname;
      version = "0";
      meta.mainProgram = pname;
    };

  packages = {
    inherit lib system;
    stdenv = {
      hostPlatform = {
        inherit system;
        rust.rustcTarget = "pretended";
      };
      buildPlatform.canExecute = _: true;
    };
    runtimeShell = "${package "bash"}/bin/bash";
    callPackage =
      file: arguments:
      let
        function = if lib.isFunction file then file else import file;
      in
      lib.makeOverridable function (
        builtins.intersectAttrs (lib.functionArgs function) packages // arguments
      );
    pkgsStatic = packages;
    rustPlatform.buildRustPackage = attributes: fake ({ nativeBuildInputs = [ ]; } // attributes);
    runCommand =
      name: attributes: script:
      fake (attributes // { inherit name script; });
    writeText = name: text: fake { inherit name text; };
    mkShell = attributes: fake ({ name = "shell"; } // attributes);
    dockerTools.buildLayeredImage =
      attributes:
      fake (
        attributes
        // {
          pname = attributes.name;
          name = "${attributes.name}.tar.gz";
        }
      );
    testers.runNixOSTest =
      test:
      let
        nodeOf = modules: (nixosSystem { inherit system modules; }).config;
        inherit
          (lib.evalModules {
            modules = [
              test
              (
                { config, ... }:
                {
                  options = {
                    name = lib.mkOption { type = lib.types.str; };
                    globalTimeout = lib.mkOption { type = lib.types.int; };
                    defaults = lib.mkOption {
                      type = lib.types.deferredModule;
                      default = { };
                    };
                    nodes = lib.mkOption { type = lib.types.lazyAttrsOf lib.types.deferredModule; };
                    testScript = lib.mkOption { type = lib.types.str; };
                  };
                  config._module.args = {
                    hostPkgs = packages;
                    pkgs = packages;
                    evaluated = lib.mapAttrs (
                      name: node:
                      nodeOf [
                        { networking.hostName = lib.mkDefault name; }
                        config.defaults
                        node
                      ]
                    ) config.nodes;
                  };
                }
              )
              (
                { evaluated, ... }:
                {
                  options.units = lib.mkOption { };
                  # What would not boot does not evaluate either.
                  config.units = lib.mapAttrs (
                    name: node:
                    let
                      failed = lib.filter (one: !one.assertion) node.assertions;
                    in
                    if failed == [ ] then
                      node.systemd.units
                    else
                      throw "${name}: ${lib.concatMapStringsSep "\n" (one: one.message) failed}"
                  ) evaluated;
                }
              )
            ];
          })
          config
          ;
      in
      fake {
        name = "vm-test-${config.name}";
        inherit (config) testScript units globalTimeout;
      };
  }
  // lib.genAttrs [
    "bash"
    "cacert"
    "cargo"
    "cargo-deny"
    "clippy"
    "etcd"
    "curl"
    "nixfmt"
    "nixfmt-tree"
    "openssl"
    "installShellFiles"
    "protobuf"
    "rust-analyzer"
    "rustc"
    "rustfmt"
  ] package;
in
packages
