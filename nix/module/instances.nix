# Commands that have no unit yet: a hardened one for each.
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
  execLine = import ./exec-line.nix { inherit lib; };
  enabled = lib.filterAttrs (_: instance: instance.enable) cfg.instances;
  pathOf = name: "services.etcd-await-election.instances.${lib.strings.escapeNixIdentifier name}";
  unitOf = name: "etcd-await-election-${name}";

  gated =
    name: instance:
    import ./unit.nix
      {
        inherit lib;
        inherit (pkgs) runtimeShell;
      }
      {
        path = pathOf name;
        unit = unitOf name;
        program = lib.getExe cfg.package;
        settings = instance;
        original = {
          ExecStart =
            if lib.isList instance.command then
              lib.concatMapStringsSep " " execLine.literal instance.command
            else
              instance.command;
          Restart = "always";
          RestartSec = 1;
        };
      };

  # What most commands can do without. Definitions of the unit's own serviceConfig win over it, one by one.
  hardening = instance: {
    CapabilityBoundingSet = "";
    DeviceAllow = "";
    DevicePolicy = "closed";
    LockPersonality = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateMounts = true;
    PrivateTmp = true;
    # In a user namespace a capability holds for nothing outside of it, such as a port below 1024.
    PrivateUsers = (instance.serviceConfig.AmbientCapabilities or "") == "";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      # nice, ionice, taskset. Limits can still be raised up to their hard limits (prlimit64).
      "~@resources"
    ];
    UMask = "0077";
    # Not MemoryDenyWriteExecute: no just-in-time compiler would run. Not ProcSubset=pid: many runtimes look up how much
    # memory there is.
  };
in
{
  options.services.etcd-await-election.instances = mkOption {
    type = types.attrsOf (
      types.submodule [
        (import ./settings.nix {
          inherit lib;
          inherit (cfg) etcd;
        })
        {
          options = {
            command = mkOption {
              type = types.either types.nonEmptyStr (types.nonEmptyListOf (types.either types.str types.path));
              example = lib.literalExpression ''[ (lib.getExe pkgs.caddy) "run" "--config" ./Caddyfile ]'';
              description = ''
                What runs on the leading host: a list of words that are passed as they are, or one string as one writes
                it in a unit's `ExecStart=`, in which systemd expands specifiers and variables, such as `%S` or
                `$STATE_DIRECTORY`.
              '';
            };

            path = mkOption {
              type = types.listOf (types.either types.package types.str);
              default = [ ];
              example = lib.literalExpression "[ pkgs.rsync ]";
              description = "Packages on the command's {env}`PATH`.";
            };

            user = mkOption {
              type = types.nullOr types.str;
              default = null;
              example = "web";
              description = ''
                The user that the command runs as, who must exist. With `null` systemd makes up one while the unit runs
                (`DynamicUser=`).
              '';
            };

            group = mkOption {
              type = types.nullOr types.str;
              default = null;
              example = "web";
              description = "The group that the command runs as; with `null` the user's own.";
            };

            environmentFiles = mkOption {
              type = types.listOf types.externalPath;
              default = [ ];
              example = [ "/var/lib/secrets/web.env" ];
              description = "Files with more variables for the unit, outside of the Nix store.";
            };

            hardening = mkOption {
              type = types.bool;
              default = true;
              description = ''
                Whether the unit is hardened: no privileges, no devices, no other users than root and its own, no change
                of its priority or its CPUs, a file system that is read-only but for the state directory
                {file}`/var/lib/etcd-await-election-NAME`. What is too strict for the command can be loosened one by one
                in {option}`serviceConfig`.
              '';
            };
          };
        }
      ]
    );
    default = { };
    example = lib.literalExpression ''
      {
        reports = {
          command = [ (lib.getExe pkgs.my-reports) "--verbose" ];
          etcd.endpoints = [ "https://etcd1:2379" "https://etcd2:2379" "https://etcd3:2379" ];
          etcd.certFile = "/var/lib/secrets/etcd/client.pem";
          etcd.keyFile = "/var/lib/secrets/etcd/client-key.pem";
        };
      }
    '';
    description = ''
      Commands that run only on the host that holds the lead, each in a unit `etcd-await-election-NAME.service`. For a
      command that has a unit already see {option}`services.etcd-await-election.gate`.
    '';
  };

  config = {
    systemd.services = lib.mapAttrs' (
      name: instance:
      lib.nameValuePair (unitOf name) {
        description = "${name}, on the leader of an etcd election";
        documentation = [ cfg.package.meta.homepage ];
        wantedBy = [ "multi-user.target" ];
        # Not to wait for the network, which the gatekeeper does itself, but to be stopped before it: the hand-over goes
        # through it, and through a member of etcd on the same host.
        after = [ "network.target" ] ++ lib.optional cfg.etcdIsLocal "etcd.service";
        # A host that is refused for a while must take part again afterwards.
        unitConfig.StartLimitIntervalSec = lib.mkDefault 0;
        inherit (instance) path;
        environment = instance.extraEnvironment;
        serviceConfig = lib.mkMerge [
          (gated name instance).serviceConfig
          (lib.mapAttrs (_: lib.mkDefault) (
            {
              StateDirectory = unitOf name;
              WorkingDirectory = "%S/${unitOf name}";
            }
            // lib.optionalAttrs instance.hardening (hardening instance)
          ))
          (if instance.user == null then { DynamicUser = true; } else { User = instance.user; })
          (lib.mkIf (instance.group != null) { Group = instance.group; })
          (lib.mkIf (instance.environmentFiles != [ ]) { EnvironmentFile = instance.environmentFiles; })
        ];
      }
    ) enabled;

    assertions = lib.concatLists (
      lib.mapAttrsToList (
        name: instance:
        checks.election (pathOf name) instance
        ++ [
          (checks.check (
            builtins.match "[A-Za-z0-9:_.-]+" name != null
          ) "${pathOf name}: the name becomes a unit's: write it with letters, digits and \":_.-\" only.")
        ]
        ++ (gated name instance).assertions
      ) enabled
    );
    warnings = lib.concatLists (
      lib.mapAttrsToList (name: instance: (gated name instance).warnings) enabled
    );
  };
}
