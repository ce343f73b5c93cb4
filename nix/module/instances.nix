# Commands without a unit: a hardened unit for each.
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

  # Restrictions that most commands can run with. Each can be overridden in the unit's serviceConfig.
  hardening = instance: {
    CapabilityBoundingSet = "";
    DeviceAllow = "";
    DevicePolicy = "closed";
    LockPersonality = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateMounts = true;
    PrivateTmp = true;
    # Capabilities in a user namespace have no effect outside of it, for example on ports below 1024.
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
    # Not MemoryDenyWriteExecute, which prevents just-in-time compilation, and not ProcSubset=pid, as many runtimes read the
    # amount of memory from /proc.
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
                The command that runs on the leading host. It is a list of words that are passed unchanged, or one string
                in the syntax of `ExecStart=`, in which systemd expands specifiers and variables, such as `%S` and
                `$STATE_DIRECTORY`.
              '';
            };

            path = mkOption {
              type = types.listOf (types.either types.package types.str);
              default = [ ];
              example = lib.literalExpression "[ pkgs.rsync ]";
              description = "Packages to add to the {env}`PATH` of the command.";
            };

            user = mkOption {
              type = types.nullOr types.str;
              default = null;
              example = "web";
              description = ''
                The user that the command runs as; it must exist. With `null`, systemd allocates a dynamic user
                (`DynamicUser=yes`).
              '';
            };

            group = mkOption {
              type = types.nullOr types.str;
              default = null;
              example = "web";
              description = "The group that the command runs as; with `null`, the primary group of the user.";
            };

            environmentFiles = mkOption {
              type = types.listOf types.externalPath;
              default = [ ];
              example = [ "/var/lib/secrets/web.env" ];
              description = "Files with additional variables for the unit (`EnvironmentFile=`), outside of the Nix store.";
            };

            hardening = mkOption {
              type = types.bool;
              default = true;
              description = ''
                Whether the unit is hardened. The command then has no privileges and no devices, sees no users except root
                and its own, cannot change its priority or its CPUs, and can write only to its state directory
                {file}`/var/lib/etcd-await-election-NAME`. Attributes in {option}`serviceConfig` replace single restrictions.
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
      Commands that run only on the leading host, each in its own unit `etcd-await-election-NAME.service`. For a
      command that has a unit already, see {option}`services.etcd-await-election.gate`.
    '';
  };

  config = {
    systemd.services = lib.mapAttrs' (
      name: instance:
      lib.nameValuePair (unitOf name) {
        description = "${name}, on the leader of an etcd election";
        documentation = [ cfg.package.meta.homepage ];
        wantedBy = [ "multi-user.target" ];
        # For the order of stopping: the handover needs the network, and the member of etcd on this host. At the start the
        # gatekeeper waits for them itself.
        after = [ "network.target" ] ++ lib.optional cfg.etcdIsLocal "etcd.service";
        # Without a limit, an instance that could not start for a while joins the election again later.
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
          ) "${pathOf name}: the name becomes part of a unit's name: use only letters, digits and \":_.-\".")
        ]
        ++ (gated name instance).assertions
      ) enabled
    );
    warnings = lib.concatLists (
      lib.mapAttrsToList (name: instance: (gated name instance).warnings) enabled
    );
  };
}
