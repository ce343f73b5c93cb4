# services.etcd-await-election: commands and services that run on one host of many.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.etcd-await-election;
  checks = import ./module/checks.nix { inherit lib; };

  # Every election of this host, with the name of its options.
  elections =
    lib.concatMap
      (
        kind:
        lib.mapAttrsToList (name: settings: {
          inherit settings;
          path = "services.etcd-await-election.${kind}.${lib.strings.escapeNixIdentifier name}";
        }) (lib.filterAttrs (_: settings: settings.enable) cfg.${kind})
      )
      [
        "instances"
        "gate"
      ];

  # Elections that have in common what none of them may have in common.
  unique =
    key: sentence:
    lib.mapAttrsToList (
      value: clash:
      checks.check (lib.length clash == 1) (
        sentence value (lib.concatMapStringsSep " and " (one: one.path) clash)
      )
    ) (removeAttrs (lib.groupBy ({ settings, ... }: key settings) elections) [ "" ]);
in
{
  imports = [
    ./module/instances.nix
    ./module/gate.nix
  ];

  options.services.etcd-await-election = {
    package = lib.mkPackageOption pkgs "etcd-await-election" { };

    etcd = import ./module/etcd.nix {
      inherit lib;
      from = null;
    };

    etcdIsLocal = mkOption {
      type = types.bool;
      default = config.services.etcd.enable or false;
      defaultText = lib.literalExpression "config.services.etcd.enable";
      internal = true;
      description = "Whether a member of etcd on this host must outlive the hand-over.";
    };
  };

  meta = {
    # A placeholder: NixOS accepts entries of lib.maintainers only, and none of them has agreed to stand here.
    maintainers = [ ];
    doc = ./module.md;
  };

  config = {
    assertions =
      unique
        (settings: if settings.identity == null then "" else "${settings.lock} as ${settings.identity}")
        (
          value: paths:
          "${paths} campaign for the same lock under the same identity (${value}) and would take it from each other: give them different locks, or identities."
        )
      ++ unique (settings: lib.optionalString (settings.statusEndpoint != null) settings.statusEndpoint) (
        value: paths: "${paths} have the same statusEndpoint (${value}): give each a port of its own."
      );

    # The name that NixOS gives to a host that was given none.
    warnings =
      lib.optional
        (
          (config.networking.hostName or "") == "nixos"
          && lib.any (one: one.settings.identity != null && lib.hasInfix "%H" one.settings.identity) elections
        )
        "services.etcd-await-election: networking.hostName is \"nixos\", which other hosts are called too, and it is this host's identity: two hosts of one identity take the lead from each other. Set networking.hostName, or identity = null.";
  };
}
