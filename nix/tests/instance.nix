# A command in a unit of this module, and an etcd with password authentication. This test runs in a container, where systemd's
# namespaces may not work; failover.nix tests the hardening, the dynamic user and the credentials, which need them.
{ pkgs, ... }:
{
  name = "etcd-await-election-instance";
  globalTimeout = 10 * 60;

  containers.machine = {
    environment.systemPackages = [ pkgs.curl ];

    services.etcd.enable = true;

    services.etcd-await-election.instances.clock = {
      command = [
        "${pkgs.runtimeShell}"
        "-c"
        "date >now; exec sleep infinity"
      ];
      path = [ pkgs.coreutils ];
      hardening = false;
      user = "clock";
      stopSignal = "INT";
      notifyReady = "elected";
      statusEndpoint = "127.0.0.1:8080";
      etcd = {
        endpoints = [ "127.0.0.1:2379" ];
        user = "clock";
        passwordFile = "/var/lib/secrets/password";
        loadCredentials = false;
      };
    };

    users.users.clock = {
      isSystemUser = true;
      group = "clock";
    };
    users.groups.clock = { };

    # The script starts the unit after it has created the etcd user.
    systemd.services.etcd-await-election-clock.wantedBy = pkgs.lib.mkForce [ ];
    systemd.tmpfiles.rules = [ "d /var/lib/secrets 0750 root clock" ];
  };

  testScript = ''
    UNIT = "etcd-await-election-clock.service"

    machine.wait_for_unit("etcd.service")
    machine.wait_until_succeeds("etcdctl endpoint health", 60)
    machine.succeed(
        "install -m 0400 -o clock /dev/stdin /var/lib/secrets/password <<<secret",
        "etcdctl user add root:root",
        "etcdctl user grant-role root root",
        "etcdctl role add clock",
        "etcdctl role grant-permission clock readwrite clock",
        "etcdctl role grant-permission clock --prefix=true readwrite clock/",
        "etcdctl user add clock:secret",
        "etcdctl user grant-role clock clock",
        "etcdctl auth enable",
    )

    with subtest("with notifyReady = elected, the command of a started unit runs"):
        machine.succeed(f"systemctl start {UNIT}")
        machine.succeed("curl --fail --silent 127.0.0.1:8080/leader")
        machine.wait_until_succeeds("test -s /var/lib/etcd-await-election-clock/now", 10)

    with subtest("the command runs as its user and does not have the password"):
        pid = machine.succeed("pgrep --exact sleep --euid clock").strip()
        machine.fail(f"grep --text --quiet secret /proc/{pid}/environ /proc/{pid}/cmdline")

    with subtest("a stop with another signal does not count as a failure"):
        machine.succeed(f"systemctl stop {UNIT}")
        machine.fail(f"systemctl is-failed {UNIT}")
  '';
}
