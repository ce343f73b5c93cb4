# A service of another module, gated on two hosts, with three members of etcd and TLS: if a host fails, the service runs on the
# other one, and never on both. A second command runs in a unit of this module with its default hardening.
{ pkgs, ... }:
let
  members = [
    "etcd1"
    "etcd2"
    "etcd3"
  ];
  certificates = import ./common/certificates.nix { inherit pkgs members; };
  member = import ./common/member.nix { inherit certificates members; };

  # Writes lines of token and time for the oracle, each synced to disk before the next one.
  beacon = {
    systemd.services.beacon = {
      description = "a service that knows nothing of elections";
      wantedBy = [ "multi-user.target" ];
      script = ''
        while true; do
          echo "$ETCD_AWAIT_ELECTION_FENCING_TOKEN $(date +%s.%N)" >>/var/lib/beacon/journal
          sync /var/lib/beacon/journal
          sleep 0.1
        done
      '';
      serviceConfig.StateDirectory = "beacon";
    };
  };

  candidate = {
    imports = [ beacon ];
    environment.systemPackages = [ pkgs.curl ];

    # Secrets are not in the Nix store, and only root can read them.
    environment.etc = {
      "etcd-client/ca.pem".source = "${certificates}/ca.pem";
      "etcd-client/cert.pem".source = "${certificates}/client.pem";
      "etcd-client/key.pem" = {
        source = "${certificates}/client-key.pem";
        mode = "0400";
      };
    };

    services.etcd-await-election = {
      etcd = {
        endpoints = map (name: "https://${name}:2379") members;
        cacertFile = "/etc/etcd-client/ca.pem";
        certFile = "/etc/etcd-client/cert.pem";
        keyFile = "/etc/etcd-client/key.pem";
      };
      gate.beacon = {
        stopGrace = 5;
        statusEndpoint = "127.0.0.1:8080";
      };
      instances.clock = {
        # One shell command for each thing that the hardening could prevent.
        command = [
          "${pkgs.runtimeShell}"
          "-c"
          "set -e; date >now; test -w /tmp; cat /proc/meminfo >/dev/null; ulimit -S -n hard; exec sleep infinity"
        ];
        path = [ pkgs.coreutils ];
      };
    };
  };
in
{
  name = "etcd-await-election-failover";
  globalTimeout = 20 * 60;

  nodes = {
    etcd1 = member;
    etcd2 = member;
    etcd3 = member;
    web1 = candidate;
    web2 = candidate;
  };

  testScript = ''
    # A lease is 15 s, and an election in etcd takes a few more; a longer limit would hide failures.
    LEASE = 15
    PATIENCE = 3 * LEASE

    LEADS = "curl --fail --silent 127.0.0.1:8080/leader"
    READY = "curl --fail --silent 127.0.0.1:8080/readyz"
    STANDS_BY = f"{READY} && ! {LEADS}"
    # By the service's output, as its name is in the gatekeeper's command line on both hosts, too.
    WROTE = "find /var/lib/beacon/journal -newermt '-1 second' | grep --quiet ."
    RUNS_NOT = f"sleep 2; ! {WROTE}"


    def leader_and_standby():
        leads = []
        for _ in range(PATIENCE):
            leads = [node for node in (web1, web2) if node.execute(LEADS)[0] == 0]
            assert len(leads) < 2, "both hosts lead"
            if leads and all(node.execute(READY)[0] == 0 for node in (web1, web2)):
                break
            web1.succeed("sleep 1")
        else:
            raise Exception(f"{len(leads)} hosts lead after {PATIENCE} s")
        return (web1, web2) if leads == [web1] else (web2, web1)


    def terms(node):
        """From when to when the service ran on this host, by token."""
        terms = {}
        for line in node.succeed("cat /var/lib/beacon/journal || true").splitlines():
            words = line.split()
            # A crash may have left half a line.
            if len(words) == 2 and "." in words[1]:
                token, time = int(words[0]), float(words[1])
                first, last = terms.get(token, (time, time))
                terms[token] = (min(first, time), max(last, time))
        return terms


    start_all()
    for member in (etcd1, etcd2, etcd3):
        member.wait_for_unit("etcd.service")
    etcd1.wait_until_succeeds("etcdctl endpoint health", PATIENCE)

    with subtest("one host leads, and the unit of the other is active, too, with its status text"):
        web1.wait_for_unit("beacon.service")
        web2.wait_for_unit("beacon.service")
        leader, standby = leader_and_standby()
        leader.wait_until_succeeds(WROTE, PATIENCE)
        standby.succeed(RUNS_NOT)
        print(standby.succeed("systemctl status beacon.service"))
        leader.succeed("systemctl show --property=StatusText beacon.service | grep --ignore-case lead")

    with subtest("the key is root's, and the gatekeeper has it"):
        leader.succeed("test $(stat --dereference --format=%a /etc/etcd-client/key.pem) = 400")

    with subtest("a hardened command runs on one host, without privileges"):
        CLOCK = "etcd-await-election-clock"
        RUNS = f"pgrep --exact sleep --euid {CLOCK}"
        for _ in range(PATIENCE):
            runs = [node for node in (web1, web2) if node.execute(RUNS)[0] == 0]
            assert len(runs) < 2, "it runs on both hosts"
            if runs:
                break
            web1.succeed("sleep 1")
        else:
            raise Exception(f"it runs nowhere after {PATIENCE} s")
        pid = runs[0].succeed(RUNS).strip()
        runs[0].succeed(
            f"test -s /var/lib/{CLOCK}/now",
            f"grep --quiet '^CapEff:\\s*0*$' /proc/{pid}/status",
            f"systemd-analyze security --threshold=12 {CLOCK}.service",
        )

    with subtest("a stop hands over and does not count as a failure"):
        leader.succeed("systemctl stop beacon.service")
        leader.succeed(RUNS_NOT)
        leader.fail("systemctl is-failed beacon.service")
        standby.wait_until_succeeds(LEADS, 5)
        leader.succeed("systemctl start beacon.service")
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("the other host leads long before the lease of a killed gatekeeper expires, and both hosts campaign again"):
        leader, standby = leader_and_standby()
        before = max(terms(leader))
        leader.succeed("systemctl kill --kill-whom=main --signal=KILL beacon.service")
        # The guard stops the service, which takes at most a tenth of a second, and the lease is revoked.
        standby.wait_until_succeeds(LEADS, LEASE // 3)
        assert max(terms(leader)) == before, "it ran on there"
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("the loss of a member of etcd has no effect"):
        leader, standby = leader_and_standby()
        before = max(terms(leader))
        etcd1.crash()
        standby.succeed(f"sleep {LEASE}")
        leader.succeed(LEADS)
        assert max(terms(leader)) == before, "leadership was lost"
        etcd1.start()
        etcd1.wait_for_unit("etcd.service")

    with subtest("the other host leads when the lease of a crashed host has expired"):
        leader, standby = leader_and_standby()
        leader.crash()
        standby.wait_until_succeeds(LEADS, PATIENCE)
        leader.start()
        leader.wait_for_unit("beacon.service")
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("a host without network stops the service, and the other one leads"):
        leader, standby = leader_and_standby()
        leader.block()
        standby.wait_until_succeeds(LEADS, PATIENCE)
        leader.succeed(RUNS_NOT)
        leader.unblock()
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("force moves leadership"):
        leader, standby = leader_and_standby()
        standby.succeed(
            "mkdir -p /run/systemd/system/beacon.service.d",
            "printf '[Service]\\nEnvironment=ETCD_AWAIT_ELECTION_FORCE_ACQUIRE=yes\\n' >/run/systemd/system/beacon.service.d/force.conf",
            "systemctl daemon-reload",
            "systemctl restart beacon.service",
        )
        standby.wait_until_succeeds(LEADS, PATIENCE)
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("the service never ran on both hosts, and tokens only grew"):
        on_web1, on_web2 = terms(web1), terms(web2)
        assert not set(on_web1) & set(on_web2), "both hosts had one token"
        in_order = sorted((on_web1 | on_web2).items())
        # The subtests moved leadership often enough.
        assert len(in_order) >= 6, f"{in_order}"
        for (_, (_, last)), (token, (first, _)) in zip(in_order, in_order[1:]):
            assert last < first, f"the service ran until {last}, and with token {token} from {first}"
  '';
}
