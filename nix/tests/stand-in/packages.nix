# A mock of the packages that the flake uses. They can be evaluated, but not built.
{
  lib,
  system,
  nixosSystem,
}:
let
  # Refuses arguments that the real function does not know, or would put into the environment without effect.
  strict =
    function: known: attributes:
    let
      unknown = lib.subtractLists known (lib.attrNames attributes);
    in
    if unknown == [ ] then
      attributes
    else
      throw "${function} has no attribute ${lib.concatStringsSep ", " unknown}";

  known = {
    derivation = [
      "__intentionallyOverridingVersion"
      "__structuredAttrs"
      "buildInputs"
      "buildPhase"
      "doCheck"
      "doInstallCheck"
      "env"
      "installPhase"
      "meta"
      "name"
      "nativeBuildInputs"
      "nativeInstallCheckInputs"
      "passthru"
      "pname"
      "postInstall"
      "src"
      "strictDeps"
      "version"
    ];
    rust = [
      "cargoLock"
      "cargoTestFlags"
    ];
    meta = [
      "changelog"
      "description"
      "homepage"
      "license"
      "longDescription"
      "mainProgram"
      "maintainers"
      "platforms"
    ];
  };

  fake =
    attributes:
    let
      name = attributes.name or "${attributes.pname}-${attributes.version}";
      # As mkDerivation has them, before it calls the builder.
      inputs =
        attributes.nativeBuildInputs or [ ]
        ++ lib.optionals (attributes.doInstallCheck or false) (
          attributes.nativeInstallCheckInputs or [ ]
        );
      derivation' = derivation {
        inherit name system;
        builder = "/pretended";
        # The inputs of the package, so that all of them are evaluated.
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
      meta = strict "meta" known.meta (attributes.meta or { });
      nativeBuildInputs = inputs;
      drvAttrs = removeAttrs attributes [
        "meta"
        "passthru"
        "nativeInstallCheckInputs"
      ]
      // {
        nativeBuildInputs = inputs;
      };
    };

  # From attributes, or from a function of the final attributes.
  fromFinal =
    check: attributesOf:
    let
      of' = if lib.isFunction attributesOf then attributesOf else _: attributesOf;
      attributes = check (of' (attributes // { inherit finalPackage; }));
      finalPackage = fake attributes // {
        overrideAttrs =
          change:
          fromFinal check (
            final:
            let
              previous = of' final;
            in
            previous
            // (
              if !lib.isFunction change then
                change
              else
                let
                  changed = change previous;
                in
                if lib.isFunction changed then change final previous else changed
            )
          );
      };
    in
    finalPackage;
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
        emulatorAvailable = _: true;
        emulator = _: "";
      };
    };
    buildPackages = packages;
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
    rustPlatform.buildRustPackage = fromFinal (
      attributes:
      { nativeBuildInputs = [ ]; }
      // strict "buildRustPackage" (known.derivation ++ known.rust) attributes
    );
    nix-update-script =
      arguments:
      strict "nix-update-script" [
        "attrPath"
        "extraArgs"
      ] arguments;
    runCommand =
      name: attributes: script:
      fake (strict "runCommand" known.derivation attributes // { inherit name script; });
    writeText = name: text: fake { inherit name text; };
    mkShell = attributes: fake ({ name = "shell"; } // strict "mkShell" [ "packages" ] attributes);
    dockerTools.buildLayeredImage =
      attributes:
      fake (
        strict "buildLayeredImage" [
          "config"
          "extraCommands"
          "name"
          "tag"
        ] attributes
        // {
          pname = attributes.name;
          name = "${attributes.name}.tar.gz";
        }
      );
    testers.runNixOSTest =
      test:
      let
        nodeOf = modules: (nixosSystem { inherit system modules; }).config;
        machines = lib.mkOption {
          type = lib.types.lazyAttrsOf lib.types.deferredModule;
          default = { };
        };
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
                    meta.maintainers = lib.mkOption {
                      type = lib.types.listOf lib.types.raw;
                      default = [ ];
                    };
                    # Virtual machines and nspawn containers, which must have different names.
                    nodes = machines;
                    containers = machines;
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
                    ) (lib.attrsets.unionOfDisjoint config.nodes config.containers);
                  };
                }
              )
              (
                { evaluated, ... }:
                {
                  options.units = lib.mkOption { };
                  # A configuration that would not boot does not evaluate either.
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
        name = "vm-test-run-${config.name}";
        inherit (config) testScript units globalTimeout;
        passthru = { inherit (config) nodes containers; };
      };
  }
  // lib.genAttrs [
    "bash"
    "cacert"
    "cargo"
    "cargo-deny"
    "clippy"
    "dnsmasq"
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
    "versionCheckHook"
  ] package;
in
packages
