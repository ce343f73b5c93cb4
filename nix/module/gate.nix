# The gatekeeper in front of a unit that another module defines.
#
# `systemd.services` is declared a second time, which NixOS merges with its own declaration, as its module for confinement
# does. Here `serviceConfig` gets an `apply`, a function from the merged definitions to the final value. This works for every
# unit without `mkForce`, and without recursion, as the option is not read to define it.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.etcd-await-election;
  checks = import ./checks.nix { inherit lib; };
  enabled = lib.filterAttrs (_: gate: gate.enable) cfg.gate;
  pathOf = name: "services.etcd-await-election.gate.${lib.strings.escapeNixIdentifier name}";

  gated =
    name: original:
    import ./unit.nix
      {
        inherit lib;
        inherit (pkgs) runtimeShell;
      }
      {
        path = pathOf name;
        unit = name;
        program = lib.getExe cfg.package;
        settings = enabled.${name};
        inherit original;
      };

  service =
    {
      name,
      options,
      ...
    }:
    let
      isGated = enabled ? ${name};
      # The merged definitions before `apply`.
      original =
        (lib.mergeDefinitions options.serviceConfig.loc options.serviceConfig.type
          options.serviceConfig.definitionsWithLocations
        ).mergedValue;
    in
    {
      options = {
        serviceConfig = mkOption {
          apply = original: if isGated then (gated name original).serviceConfig else original;
        };
        # Passes the assertions about the unit to the configuration, as they can only be evaluated here.
        etcd-await-election = mkOption {
          type = types.attrsOf types.anything;
          internal = true;
          readOnly = true;
          default = lib.optionalAttrs isGated {
            inherit (gated name original) assertions warnings;
          };
        };
      };

      config = lib.mkIf isGated {
        environment = enabled.${name}.extraEnvironment;
        # For the order of stopping: the handover needs the network, and the member of etcd on this host. At the start the
        # gatekeeper waits for them itself.
        after = [ "network.target" ] ++ lib.optional cfg.etcdIsLocal "etcd.service";
        # Without a limit, an instance that could not start for a while joins the election again later.
        unitConfig.StartLimitIntervalSec = lib.mkDefault 0;
      };
    };
in
{
  options = {
    systemd.services = mkOption { type = types.attrsOf (types.submodule service); };

    services.etcd-await-election.gate = mkOption {
      type = types.attrsOf (
        types.submodule (
          import ./settings.nix {
            inherit lib;
            inherit (cfg) etcd;
            own = {
              stopGrace = {
                type = types.nullOr (import ./duration.nix { inherit lib; }).type;
                default = null;
                note = "`null` means the unit's own `TimeoutStopSec`, or systemd's default of 90 seconds.";
              };
              stopSignal = {
                type = types.nullOr types.str;
                default = null;
                note = "`null` means the unit's own `KillSignal`, or SIGTERM.";
              };
            };
          }
        )
      );
      default = { };
      example = lib.literalExpression ''
        {
          # services.redis.servers.jobs, on the leading host only
          redis-jobs = {
            lock = "redis-jobs";
            etcd.endpoints = [ "https://etcd1:2379" "https://etcd2:2379" "https://etcd3:2379" ];
          };
        }
      '';
      description = ''
        Services of other modules that run only on the leading host, by their names in {option}`systemd.services`.
        The unit keeps its name, its user, its sandbox and its `ExecStartPre`, which runs on every host. The gatekeeper runs
        its `ExecStart`. Its `PIDFile` is removed, and so is an `ExecReload` that does not signal `$MAINPID`, because
        it could start the service on a standby. A unit that cannot be gated is refused, for example one of `Type=forking`.
      '';
    };
  };

  config = {
    assertions = lib.concatLists (
      lib.mapAttrsToList (
        name: gate:
        let
          path = pathOf name;
        in
        checks.election path gate
        ++ [
          (checks.check (
            !lib.hasSuffix ".service" name
          ) "${path}: write the name of the unit without \".service\", as in systemd.services.")
          (checks.check (lib.hasSuffix ".service" name || config.systemd.services ? ${name})
            "${path}: there is no systemd.services.${lib.strings.escapeNixIdentifier name}. Check the name, and that the module of that service is enabled."
          )
          (checks.check (!config.systemd.sockets or { } ? ${name})
            "${path}: the unit is started by systemd.sockets.${lib.strings.escapeNixIdentifier name}, which would accept connections on every host and could not pass them to the command: let the service open its own socket."
          )
        ]
        ++ config.systemd.services.${name}.etcd-await-election.assertions or [ ]
      ) enabled
    );
    warnings = lib.concatLists (
      lib.mapAttrsToList (
        name: _: config.systemd.services.${name}.etcd-await-election.warnings or [ ]
      ) enabled
    );
  };
}
