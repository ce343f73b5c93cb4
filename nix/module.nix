# services.etcd-await-election: commands and services that run on one of several hosts.
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

  # All elections of this host, with the path of their options.
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

  # Checks that no two elections have the same value of `key`.
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
      description = "Whether this host runs a member of etcd, which must be stopped after the handover.";
    };
  };

  meta = {
    # A placeholder: NixOS accepts only entries of lib.maintainers, and nobody listed there maintains this module yet.
    maintainers = [ ];
    doc = ./module.md;
  };

  config = {
    assertions =
      unique
        (settings: if settings.identity == null then "" else "${settings.lock} as ${settings.identity}")
        (
          value: paths:
          "${paths} campaign for the same lock under the same identity (${value}) and would take leadership from each other: give them different locks or different identities."
        )
      ++ unique (settings: lib.optionalString (settings.statusEndpoint != null) settings.statusEndpoint) (
        value: paths: "${paths} have the same statusEndpoint (${value}): give each of them its own port."
      );

    # The default host name of NixOS.
    warnings =
      lib.optional
        (
          (config.networking.hostName or "") == "nixos"
          && lib.any (one: one.settings.identity != null && lib.hasInfix "%H" one.settings.identity) elections
        )
        "services.etcd-await-election: networking.hostName is \"nixos\", which other hosts are called too, and it is this host's identity: two hosts with the same identity take leadership from each other. Set networking.hostName, or identity = null.";
  };
}
