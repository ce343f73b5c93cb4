# The gatekeeper in front of a unit that another module defines.
#
# `systemd.services` is declared once more, to be merged with NixOS's own declaration, as the confinement of services does.
# Here `serviceConfig` gets an `apply`: a function from what all definitions together say to what everybody sees. So
# nothing has to be known of who wrote the unit, nothing is forced, and there is no recursion: the option is never read
# in order to define it.
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
      # What the definitions say before `apply`.
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
        # What is wrong with the unit for a gatekeeper can only be seen here, and is told outside.
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
        # Not to wait for the network, which the gatekeeper does itself, but to be stopped before it: the hand-over goes
        # through it, and through a member of etcd on the same host.
        after = [ "network.target" ] ++ lib.optional cfg.etcdIsLocal "etcd.service";
        # A host that is refused for a while must take part again afterwards.
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
                note = "`null` is what the unit gives it without a gate: its `TimeoutStopSec`, or systemd's 90 seconds.";
              };
              stopSignal = {
                type = types.nullOr types.str;
                default = null;
                note = "`null` is what it gets without a gate: the unit's `KillSignal`, or SIGTERM.";
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
        Services of other modules that run only on the host that holds the lead; each is named as in
        {option}`systemd.services`. The unit keeps its name, its user, its sandbox and its `ExecStartPre` (which runs on
        every host, as the unit is started on every host), its `ExecStart` is run by the gatekeeper, and its `PIDFile` is
        cleared, as is an `ExecReload` that does not signal `$MAINPID`: it may start the service on a standby. A unit of `Type=forking` is refused, and so is what else cannot work.
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
            "${path}: the unit is started by systemd.sockets.${lib.strings.escapeNixIdentifier name}, which would take connections on every host and could not hand them to the command: let the service listen by itself."
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
