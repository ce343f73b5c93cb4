# The NixOS tests of the package.
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
    # Virtual machines, to test hardening, crashes and network cuts.
    failover = ./tests/failover.nix;
  }
