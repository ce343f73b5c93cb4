# A service of another module, gated on two hosts, by three members of etcd with TLS: whatever happens to a host, the
# service runs on the other, and never on both. Beside it a command in a unit of this module's own, as hardened as it is by
# default.
{ pkgs, ... }:
let
  members = [
    "etcd1"
    "etcd2"
    "etcd3"
  ];
  certificates = import ./common/certificates.nix { inherit pkgs members; };
  member = import ./common/member.nix { inherit certificates members; };

  # Writes who ran when, for the oracle: lines of token and time, on disk before the next one is.
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

    # As a secret comes to a host: not through the store, and for root alone.
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
        # One word of a shell's for each thing that the hardening could take away.
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
    # A lease is 15 s, and an election in etcd a few more: longer patience would only hide what is wrong.
    LEASE = 15
    PATIENCE = 3 * LEASE

    LEADS = "curl --fail --silent 127.0.0.1:8080/leader"
    READY = "curl --fail --silent 127.0.0.1:8080/readyz"
    STANDS_BY = f"{READY} && ! {LEADS}"
    # By what the service does: its name is on the gatekeeper's command line, too, on both hosts.
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

    with subtest("one host leads, the other one's unit is active, too, and says so"):
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

    with subtest("a stop hands over, and is no failure"):
        leader.succeed("systemctl stop beacon.service")
        leader.succeed(RUNS_NOT)
        leader.fail("systemctl is-failed beacon.service")
        standby.wait_until_succeeds(LEADS, 5)
        leader.succeed("systemctl start beacon.service")
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("a killed gatekeeper is followed long before its lease ends, and both hosts take part again"):
        leader, standby = leader_and_standby()
        before = max(terms(leader))
        leader.succeed("systemctl kill --kill-whom=main --signal=KILL beacon.service")
        # The guard ends the service, which takes no longer than a tenth of a second, and gives the lease back.
        standby.wait_until_succeeds(LEADS, LEASE // 3)
        assert max(terms(leader)) == before, "it ran on there"
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("the loss of a member of etcd costs nothing"):
        leader, standby = leader_and_standby()
        before = max(terms(leader))
        etcd1.crash()
        standby.succeed(f"sleep {LEASE}")
        leader.succeed(LEADS)
        assert max(terms(leader)) == before, "the lead was lost"
        etcd1.start()
        etcd1.wait_for_unit("etcd.service")

    with subtest("a crash of the host hands over when the lease ends"):
        leader, standby = leader_and_standby()
        leader.crash()
        standby.wait_until_succeeds(LEADS, PATIENCE)
        leader.start()
        leader.wait_for_unit("beacon.service")
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("a cut network ends the service there, and hands over"):
        leader, standby = leader_and_standby()
        leader.block()
        standby.wait_until_succeeds(LEADS, PATIENCE)
        leader.succeed(RUNS_NOT)
        leader.unblock()
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("force moves the lead"):
        leader, standby = leader_and_standby()
        standby.succeed(
            "mkdir -p /run/systemd/system/beacon.service.d",
            "printf '[Service]\\nEnvironment=ETCD_AWAIT_ELECTION_FORCE_ACQUIRE=yes\\n' >/run/systemd/system/beacon.service.d/force.conf",
            "systemctl daemon-reload",
            "systemctl restart beacon.service",
        )
        standby.wait_until_succeeds(LEADS, PATIENCE)
        leader.wait_until_succeeds(STANDS_BY, PATIENCE)

    with subtest("the service never ran on both, and tokens only grew"):
        on_web1, on_web2 = terms(web1), terms(web2)
        assert not set(on_web1) & set(on_web2), "both hosts had one token"
        in_order = sorted((on_web1 | on_web2).items())
        # The subtests moved it often enough for this to mean something.
        assert len(in_order) >= 6, f"{in_order}"
        for (_, (_, last)), (token, (first, _)) in zip(in_order, in_order[1:]):
            assert last < first, f"the service ran until {last}, and with token {token} from {first}"
  '';
}
