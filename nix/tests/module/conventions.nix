# The module follows the rules of nixpkgs.
{
  lib,
  evaluate,
  evaluateOptions,
  package,
  ...
}:
let
  config = evaluate [
    {
      services.etcd-await-election = {
        etcd.endpoints = [ "etcd1:2379" ];
        instances.plain.command = "/bin/serve";
        instances.port = {
          command = "/bin/serve";
          serviceConfig.AmbientCapabilities = "CAP_NET_BIND_SERVICE";
        };
        instances.soft = {
          command = "/bin/serve";
          hardening = false;
        };
        gate.daemon = { };
      };
      systemd.services.daemon.serviceConfig.ExecStart = "/bin/daemon";
    }
  ];
  unit = name: config.systemd.services.${name}.serviceConfig;
  plain = unit "etcd-await-election-plain";
  maintained = (evaluateOptions [ ]).meta.maintainers.files;
  documents = map (definition: toString definition.value) config.meta.doc;

  require = what: holds: lib.optional (!holds) what;
  hardening = {
    PrivateUsers = true;
    PrivateMounts = true;
    DevicePolicy = "closed";
    DeviceAllow = "";
  };
in
{
  wrong =
    lib.concatLists (
      lib.mapAttrsToList (
        key: wanted:
        require "instances: ${key} is not ${builtins.toJSON wanted}" (
          plain.${key} or null == wanted
        )
        # Only units of this module are hardened, and only on request.
        ++ require "gate, hardening = false: ${key} is set" (
          !unit "daemon" ? ${key} && !unit "etcd-await-election-soft" ? ${key}
        )
      ) hardening
    )
    ++ require "instances: SystemCallFilter allows @resources" (
      lib.elem "~@resources" plain.SystemCallFilter
    )
    ++ require "instances: a capability is of no use with PrivateUsers" (
      !(unit "etcd-await-election-port").PrivateUsers or true
    )
    ++ require "environment.systemPackages has the package" (
      !lib.elem package config.environment.systemPackages
    )
    ++ require "meta.doc is not set" (
      lib.any (file: lib.hasSuffix "/module.md" file && builtins.pathExists file) documents
    )
    ++ require "meta.maintainers is not set" (
      lib.any (file: lib.hasSuffix "/nix/module.nix" (toString file)) maintained
    );
}
