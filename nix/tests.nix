# The NixOS tests of a package, by the names of their files.
{ testers, package }:
builtins.mapAttrs
  (
    _: file:
    testers.runNixOSTest {
      imports = [ file ];
      defaults = {
        imports = [ ./module.nix ];
        services.etcd-await-election = { inherit package; };
      };
    }
  )
  {
    # Containers of systemd-nspawn, which need no KVM.
    instance = ./tests/instance.nix;
    # Virtual machines, for what a container shares with its host and for the hardening.
    failover = ./tests/failover.nix;
  }
