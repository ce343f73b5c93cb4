# Wrong settings are refused with the right message. All of them are in one configuration, and each has its own name.
{ lib, evaluate, ... }:
let
  prefix = "services.etcd-await-election";
  endpoints = [ "etcd1:2379" ];

  # Wrong settings of an instance, and the message after the name of the instance.
  instances = {
    half-a-second = {
      settings.leaseDuration = "1500ms";
      says = ".leaseDuration (1500ms) must be whole seconds, at least 1s: etcd grants leases of whole seconds only.";
    };
    no-lease = {
      settings.leaseDuration = 0;
      says = ".leaseDuration (0s) must be whole seconds, at least 1s: etcd grants leases of whole seconds only.";
    };
    too-long = {
      settings.leaseDuration = 9000000001;
      says = ".leaseDuration (9000000001s) is longer than etcd's longest lease of 9000000000s.";
    };
    hasty = {
      settings.retryPeriod = "99ms";
      says = ".retryPeriod (99ms) must be at least 100ms.";
    };
    slow = {
      settings.retryPeriod = 10;
      says = ".retryPeriod (10s) must be at most half of renewDeadline (10s): the rest is needed to retry a renewal that fails.";
    };
    # With a lease of 15 s, 1 s is kept for SIGKILL and 1 s for the stop signal.
    no-room = {
      settings.renewDeadline = "13001ms";
      says = ".renewDeadline (13001ms) must be at most 13s with leaseDuration 15s: the rest is needed to stop the command before the lease can expire.";
    };
    # A short lease: a quarter of it for each.
    no-room-short = {
      settings = {
        leaseDuration = 1;
        renewDeadline = "501ms";
        retryPeriod = "100ms";
      };
      says = ".renewDeadline (501ms) must be at most 500ms with leaseDuration 1s: the rest is needed to stop the command before the lease can expire.";
    };
    nowhere = {
      settings.etcd.endpoints = lib.mkForce [ ];
      says = ".etcd.endpoints is empty: list the members of etcd here, or for all elections in services.etcd-await-election.etcd.endpoints.";
    };
    listed-and-discovered = {
      settings.etcd.discoverySrv = "example.org";
      says = ".etcd.discoverySrv and endpoints are both set: set only one of them.";
    };
    only-suffix = {
      settings.etcd.discoverySrvName = "west";
      says = ".etcd.discoverySrvName requires services.etcd-await-election.instances.only-suffix.etcd.discoverySrv: set both, or neither.";
    };
    listed-in-one = {
      settings.etcd.endpoints = lib.mkForce [ "a:1,b:2" ];
      says = ".etcd.endpoints: \"a:1,b:2\" is not a valid endpoint: write each member as an element of the list, as host:port or a URL.";
    };
    with-user = {
      settings.etcd.endpoints = lib.mkForce [ "http://u:secret@a:1" ];
      says = ".etcd.endpoints: an endpoint contains a user name: use etcd.user and etcd.passwordFile instead.";
    };
    without-tls = {
      settings.etcd = {
        endpoints = lib.mkForce [ "http://a:1" ];
        cacertFile = "/ca.pem";
      };
      says = ".etcd.endpoints: http://a:1 does not use TLS, but one of etcd.cacertFile, certFile, keyFile and tlsServerName is set: write https:// or no scheme.";
    };
    only-cert = {
      settings.etcd.certFile = "/cert.pem";
      says = ".etcd.certFile requires services.etcd-await-election.instances.only-cert.etcd.keyFile: set both, or neither.";
    };
    only-key = {
      settings.etcd.keyFile = "/key.pem";
      says = ".etcd.keyFile requires services.etcd-await-election.instances.only-key.etcd.certFile: set both, or neither.";
    };
    only-user = {
      settings.etcd.user = "web";
      says = ".etcd.user requires services.etcd-await-election.instances.only-user.etcd.passwordFile: set both, or neither.";
    };
    only-password = {
      settings.etcd.passwordFile = "/password";
      says = ".etcd.passwordFile requires services.etcd-await-election.instances.only-password.etcd.user: set both, or neither.";
    };
    published-variable = {
      settings.extraEnvironment.ETCD_AWAIT_ELECTION_PASSWORD = "secret";
      says = ".extraEnvironment contains the password, which every user of the host could read there: use services.etcd-await-election.instances.published-variable.etcd.passwordFile.";
    };
    tilde = {
      settings.lock = "jobs/~entry/1";
      says = ".lock (\"jobs/~entry/1\") must not contain a segment that begins with a tilde.";
    };
    slash = {
      settings.lock = "slash/";
      says = ".lock (\"slash/\") must be a name that does not end with a slash.";
    };
    blank = {
      settings.identity = " ";
      says = ".identity is blank: write a name, or null for a random one at each start.";
    };
    port-only = {
      settings.statusEndpoint = "8080";
      says = ".statusEndpoint (8080) must be host:port, or :port for all interfaces.";
    };
  };

  # Units that cannot have a gatekeeper in front of them.
  units = {
    absent = {
      says = ": systemd.services.absent.serviceConfig.ExecStart is not set. If the unit file comes from a package, give its command there as [ \"\" \"/path/to/command arguments\" ]; otherwise check the name.";
    };
    two = {
      service = {
        Type = "oneshot";
        ExecStart = [
          "/bin/a"
          "/bin/b"
        ];
      };
      gate.acquireTimeout = 0;
      says = ": the unit has 2 commands in ExecStart, and leadership would be handed over between them: combine them into one script.";
    };
    semicolon = {
      service = {
        Type = "oneshot";
        ExecStart = "/bin/a ; /bin/b";
      };
      gate.acquireTimeout = 0;
      says = ": the unit's ExecStart has a second command after a semicolon, which would run without leadership: combine them into one script.";
    };
    shell = {
      service.ExecStart = "|/bin/a";
      says = ": the unit's ExecStart has the prefix \"|\", which starts a shell in place of the gatekeeper: write the shell as the command.";
    };
    daemon = {
      service = {
        Type = "forking";
        ExecStart = "/bin/a";
      };
      says = ": the unit is of Type=forking: the command would count as exited as soon as its first process exits. Run it in the foreground (many daemons have an option for that), and set systemd.services.daemon.serviceConfig.Type = lib.mkForce \"exec\".";
    };
    remains = {
      service = {
        ExecStart = "/bin/a";
        RemainAfterExit = true;
      };
      says = ": the unit has RemainAfterExit=, but leadership is handed over when its command exits: run a command that does not exit while leadership is needed.";
    };
    adopting = {
      service.ExecStart = "/bin/a";
      gate.serviceConfig.PIDFile = "/run/a.pid";
      says = ".serviceConfig.PIDFile must be empty: systemd would take the process that it names for the gatekeeper, and the command could outlive its lock.";
    };
    patient = {
      service = {
        ExecStart = "/bin/a";
        TimeoutStopSec = "infinity";
      };
      says = ".stopGrace must be set: the unit's TimeoutStopSec (infinity) cannot be used as the stop grace of its command.";
    };
    once = {
      service = {
        Type = "oneshot";
        ExecStart = "/bin/a";
      };
      gate = {
        acquireTimeout = 0;
        notifyReady = "elected";
      };
      says = ".notifyReady has no effect for a unit of Type=oneshot: such a unit has started when its command has exited.";
    };
    alone = {
      service = {
        ExecStart = "/bin/a";
        PrivateNetwork = true;
      };
      says = ": the unit has PrivateNetwork=, and the gatekeeper could not reach etcd: set systemd.services.alone.serviceConfig.PrivateNetwork = lib.mkForce false.";
    };
    local = {
      service = {
        ExecStart = "/bin/a";
        RestrictAddressFamilies = "AF_UNIX";
      };
      says = ": the unit's RestrictAddressFamilies excludes an address family that the gatekeeper needs: AF_UNIX to notify systemd, AF_INET and AF_INET6 to reach etcd. Add them in systemd.services.local.serviceConfig.RestrictAddressFamilies.";
    };
    mute = {
      service = {
        ExecStart = "/bin/a";
        RestrictAddressFamilies = [ "~AF_UNIX AF_NETLINK" ];
      };
      says = ": the unit's RestrictAddressFamilies excludes an address family that the gatekeeper needs: AF_UNIX to notify systemd, AF_INET and AF_INET6 to reach etcd. Add them in systemd.services.mute.serviceConfig.RestrictAddressFamilies.";
    };
    listening = {
      service.ExecStart = "/bin/a";
      says = ": the unit is started by systemd.sockets.listening, which would accept connections on every host and could not pass them to the command: let the service open its own socket.";
    };
    walled = {
      service = {
        ExecStart = "/bin/a";
        IPAddressDeny = "any";
      };
      says = ": the unit has IPAddressDeny=, and the gatekeeper could not reach etcd: list etcd's addresses in systemd.services.walled.serviceConfig.IPAddressAllow.";
    };
  };

  config = evaluate [
    {
      services.etcd-await-election = {
        instances =
          lib.mapAttrs (
            _:
            { settings, ... }:
            lib.mkMerge [
              {
                command = [ "/bin/true" ];
                etcd = { inherit endpoints; };
              }
              settings
            ]
          ) instances
          // {
            # Not wrong in themselves.
            twin-a = {
              lock = "twin";
              statusEndpoint = ":1";
              command = "/bin/true";
              etcd = { inherit endpoints; };
            };
            twin-b = {
              lock = "twin";
              statusEndpoint = ":1";
              command = "/bin/true";
              etcd = { inherit endpoints; };
            };
            # Nobody minds what is wrong with it.
            "of no/use" = {
              enable = false;
              command = "/bin/true";
            };
            "a b" = {
              command = "/bin/true";
              etcd = { inherit endpoints; };
            };
          };
        gate =
          lib.mapAttrs (
            _: unit:
            lib.mkMerge [
              { etcd = { inherit endpoints; }; }
              (unit.gate or { })
            ]
          ) units
          // {
            nobodys.etcd = { inherit endpoints; };
            "full.service".etcd = { inherit endpoints; };
          };
      };
      systemd.services = lib.mapAttrs (_: unit: { serviceConfig = unit.service or { }; }) units;
      systemd.sockets.listening.listenStreams = [ "/run/listening" ];
    }
  ];

  expected =
    lib.mapAttrsToList (name: { says, ... }: "${prefix}.instances.${name}${says}") instances
    ++ lib.mapAttrsToList (name: { says, ... }: "${prefix}.gate.${name}${says}") units
    ++ [
      "${prefix}.instances.\"a b\": the name becomes part of a unit's name: use only letters, digits and \":_.-\"."
      "${prefix}.gate.nobodys: there is no systemd.services.nobodys. Check the name, and that the module of that service is enabled."
      "${prefix}.gate.\"full.service\": write the name of the unit without \".service\", as in systemd.services."
      "${prefix}.instances.twin-a and ${prefix}.instances.twin-b campaign for the same lock under the same identity (twin as %H) and would take leadership from each other: give them different locks or different identities."
      "${prefix}.instances.twin-a and ${prefix}.instances.twin-b have the same statusEndpoint (:1): give each of them its own port."
    ];

  # Without the assertions of NixOS itself, for example that there is no file system.
  actual = map (assertion: assertion.message) (
    lib.filter ({ assertion, message }: !assertion && lib.hasPrefix prefix message) config.assertions
  );

  # Settings that the types refuse.
  accepts =
    settings:
    (builtins.tryEval (
      builtins.deepSeq
        (evaluate [
          {
            services.etcd-await-election.instances.typed = {
              command = "/bin/true";
            }
            // settings;
          }
        ]).systemd.services.etcd-await-election-typed.serviceConfig
        true
    )).success;
  wronglyTyped = {
    "a duration in hours" = {
      leaseDuration = "1h";
    };
    "a duration with a sign" = {
      retryPeriod = "-1s";
    };
    "a negative number" = {
      stopGrace = -1;
    };
    "an unknown answer to a loss" = {
      onLoss = "retry";
    };
    "no command" = {
      command = [ ];
    };
    "a key in the Nix store" = {
      etcd.keyFile = "${builtins.storeDir}/${lib.fixedWidthString 32 "0" ""}-key.pem";
    };
    # It would be copied to the Nix store.
    "a password by a Nix path" = {
      etcd.passwordFile = /password;
    };
    "variables in the Nix store" = {
      environmentFiles = [ "${builtins.storeDir}/${lib.fixedWidthString 32 "0" ""}-web.env" ];
    };
  };
in
{
  wrong =
    map (message: "not refused: ${message}") (lib.subtractLists actual expected)
    ++ map (message: "not expected: ${message}") (lib.subtractLists expected actual)
    # The host name is left as NixOS has it.
    ++ lib.optional (
      !lib.any (lib.hasPrefix "${prefix}: networking.hostName is \"nixos\"") config.warnings
    ) "no warning about the host name"
    ++ lib.optional (
      !accepts { etcd.keyFile = "/var/lib/secrets/key.pem"; }
    ) "refused: a key outside of the Nix store"
    ++ lib.mapAttrsToList (name: _: "not refused: ${name}") (lib.filterAttrs (_: accepts) wronglyTyped);
}
