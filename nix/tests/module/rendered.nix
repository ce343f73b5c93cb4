# The units that the module makes. Only the lines that a case is about are compared; `null` stands for an absent line.
{
  lib,
  evaluate,
  program,
  ...
}:
let
  endpoints = [
    "https://etcd1:2379"
    "https://etcd2:2379"
  ];
  # Defaults are passed as flags, too, so that a unit shows the values in use.
  defaults = lib.listToAttrs (
    map (setting: lib.nameValuePair setting.flag setting.default) (
      lib.filter (setting: setting.default != null) (lib.importJSON ../../module/settings.json)
    )
  );
  gatekeeper =
    {
      lock,
      identity ? "%H",
      lease ? "15",
      grace ? "90s",
      signal ? "TERM",
      ready ? "started",
      more ? { },
    }:
    let
      flags = defaults // {
        lock-name = lock;
        inherit identity;
        endpoints = lib.concatStringsSep "," endpoints;
        lease-duration = lease;
        stop-grace = grace;
        stop-signal = signal;
        notify-ready = ready;
      }
      // more;
    in
    "${program} ${
      lib.concatStringsSep " " (
        lib.mapAttrsToList (flag: value: "--${flag}=${value}") (lib.filterAttrs (_: v: v != null) flags)
      )
    } --";

  instances = {
    plain = {
      settings.command = [
        "/bin/serve"
        "100% $HOME"
        ";"
      ];
      expect = {
        ExecStart = ''${
          gatekeeper {
            lock = "plain";
            grace = "10";
          }
        } /bin/serve "100%% $$HOME" ";"'';
        Type = "notify";
        NotifyAccess = "main";
        KillMode = "control-group";
        KillSignal = "SIGURG";
        TimeoutStopSec = "12s";
        WatchdogSec = 30;
        Restart = "always";
        SuccessExitStatus = [ 143 ];
        DynamicUser = true;
        ProtectSystem = "strict";
        StateDirectory = "etcd-await-election-plain";
        LoadCredential = null;
        TimeoutStartSec = null;
        User = null;
      };
    };
    everything = {
      settings = {
        command = "/bin/serve --state $STATE_DIRECTORY";
        lock = "production/%i";
        identity = null;
        leaseDuration = "30s";
        stopGrace = "2500ms";
        stopSignal = "INT";
        acquireTimeout = 0;
        forceAcquire = true;
        onLoss = "campaign";
        notifyReady = "elected";
        statusEndpoint = "127.0.0.1:8080";
        log = "debug";
        logFormat = "json";
        user = "web";
        environmentFiles = [ "/var/lib/secrets/web.env" ];
        serviceConfig.ProtectSystem = "full";
        etcd = {
          cacertFile = "/s/ca.pem";
          certFile = "/s/cert.pem";
          keyFile = "/s/key.pem";
          user = "100%";
          passwordFile = "/s/password";
          tlsServerName = "etcd";
          clusterId = "cdf818194e3a8c32";
        };
      };
      expect = {
        ExecStart = "${
          gatekeeper {
            lock = "production/%i";
            identity = null;
            lease = "30s";
            grace = "2500ms";
            signal = "INT";
            ready = "elected";
            more = {
              acquire-timeout = "0";
              cacert = "%d/etcd-await-election.cacert";
              cert = "%d/etcd-await-election.cert";
              force-acquire = "yes";
              key = "%d/etcd-await-election.key";
              log = "debug";
              log-format = "json";
              on-loss = "campaign";
              password-file = "%d/etcd-await-election.password-file";
              status-endpoint = "127.0.0.1:8080";
              tls-server-name = "etcd";
              cluster-id = "cdf818194e3a8c32";
              user = "100%%";
            };
          }
        } /bin/serve --state $STATE_DIRECTORY";
        LoadCredential = [
          "etcd-await-election.cacert:/s/ca.pem"
          "etcd-await-election.cert:/s/cert.pem"
          "etcd-await-election.key:/s/key.pem"
          "etcd-await-election.password-file:/s/password"
        ];
        # 30 s of lease, less 2 s between renewals and 1.75 s for the kill.
        TimeoutStopSec = "26250ms";
        TimeoutStartSec = "infinity";
        WatchdogSec = 60;
        SuccessExitStatus = [
          143
          130
        ];
        User = "web";
        DynamicUser = null;
        EnvironmentFile = [ "/var/lib/secrets/web.env" ];
        ProtectSystem = "full";
      };
    };
    soft = {
      settings = {
        command = "/bin/serve";
        hardening = false;
        notifyReady = "campaigning";
        etcd = {
          loadCredentials = false;
          cacertFile = "/s/ca.pem";
        };
      };
      expect = {
        ExecStart = "${
          gatekeeper {
            lock = "soft";
            grace = "10";
            ready = "campaigning";
            more.cacert = "/s/ca.pem";
          }
        } /bin/serve";
        LoadCredential = null;
        ProtectSystem = null;
        DynamicUser = true;
        # While etcd does not answer it is not in the queue, without a time limit.
        TimeoutStartSec = "infinity";
      };
    };
  };

  gates = {
    # A common kind of service.
    simple = {
      service = {
        ExecStart = "/bin/daemon --flag \"a b\" $HOME %n";
        User = "daemon";
        ExecReload = "/bin/kill -HUP $MAINPID";
        ExecStop = "/bin/true --stop";
      };
      expect = {
        ExecStart = "${gatekeeper { lock = "simple"; }} /bin/daemon --flag \"a b\" $HOME %n";
        ExecReload = "/bin/kill -HUP $MAINPID";
        ExecStop = "/bin/true --stop";
        User = "daemon";
        Type = "notify";
        NotifyAccess = "main";
        KillMode = "control-group";
        TimeoutStopSec = "12s";
        WatchdogSignal = "SIGURG";
        WatchdogSec = 30;
        Restart = "on-failure";
        RestartForceExitStatus = [
          70
          71
          79
          80
        ];
        RestartPreventExitStatus = [ 64 ];
        SuccessExitStatus = [ 143 ];
        KillSignal = "SIGURG";
        LoadCredential = null;
      };
    };
    # Settings about the main process become flags of the gatekeeper, or are replaced.
    database = {
      service = {
        Type = "notify";
        NotifyAccess = "all";
        ExecStart = "/bin/database";
        KillSignal = "SIGINT";
        KillMode = "process";
        PIDFile = "/run/database.pid";
        TimeoutSec = "5 min";
        WatchdogSec = 7;
        Restart = "always";
        SuccessExitStatus = "3 4";
        LoadCredential = "own:/own";
      };
      gate = {
        leaseDuration = 20;
        etcd.cacertFile = "/s/ca.pem";
      };
      expect = {
        ExecStart = "${
          gatekeeper {
            lock = "database";
            lease = "20";
            grace = "300s";
            signal = "SIGINT";
            more.cacert = "%d/etcd-await-election.cacert";
          }
        } /bin/database";
        Type = "notify";
        NotifyAccess = "main";
        PIDFile = "";
        KillSignal = "SIGURG";
        KillMode = "control-group";
        TimeoutStopSec = "16750ms";
        WatchdogSec = 40;
        Restart = "always";
        SuccessExitStatus = [
          "3 4"
          143
          130
        ];
        LoadCredential = [
          "own:/own"
          "etcd-await-election.cacert:/s/ca.pem"
        ];
      };
    };
    # It would start the daemon on a standby.
    graceful = {
      service = {
        ExecStart = "/bin/daemon";
        ExecReload = "/bin/daemon -k graceful";
      };
      expect.ExecReload = "";
    };
    # The operator sets ExecReload.
    reloaded = {
      service = {
        ExecStart = "/bin/daemon";
        ExecReload = "/bin/daemonctl reload";
      };
      gate.serviceConfig.ExecReload = "/bin/true --if-running";
      expect.ExecReload = "/bin/true --if-running";
    };
    # systemd would send the signal itself, and wait for an answer.
    signaled = {
      service = {
        Type = "notify-reload";
        ReloadSignal = "SIGUSR1";
        ExecStart = "/bin/daemon";
      };
      expect.Type = "notify";
    };
    # A unit of a package: the first, empty line clears the package's command.
    packaged = {
      service.ExecStart = [
        ""
        "-/bin/daemon"
      ];
      expect.ExecStart = [
        ""
        "-${gatekeeper { lock = "packaged"; }} /bin/daemon"
      ];
    };
    privileged = {
      service.ExecStart = "!!/bin/daemon";
      expect.ExecStart = "!!${gatekeeper { lock = "privileged"; }} /bin/daemon";
    };
    # Where systemd expands no variables, a doubled dollar would stay doubled.
    verbatim = {
      service.ExecStart = ":/bin/daemon $HOME";
      gate.lock = "$verbatim";
      expect.ExecStart = ":${gatekeeper { lock = "$verbatim"; }} /bin/daemon $HOME";
    };
    dollar = {
      service.ExecStart = "/bin/daemon";
      # Forbids nothing that the gatekeeper needs.
      service.RestrictAddressFamilies = "~AF_NETLINK AF_PACKET";
      gate.lock = "$dollar";
      expect.ExecStart = "${gatekeeper { lock = "$$dollar"; }} /bin/daemon";
    };
    renamed = {
      service.ExecStart = "-@/bin/daemon name --flag";
      # `shell` is the host's own: everything before it and after it is compared.
      begins = "-${gatekeeper { lock = "renamed"; }} ";
      ends = ''/bin/bash -c "path=\"$$0\" name=\"$$1\"; shift; exec -a \"$$name\" \"$$path\" \"$$@\"" /bin/daemon name --flag'';
    };
    "template@" = {
      service.ExecStart = "/bin/daemon %i";
      expect.ExecStart = "${gatekeeper { lock = "template@%i"; }} /bin/daemon %i";
    };
    job = {
      service = {
        Type = "oneshot";
        ExecStart = [ "/bin/job" ];
      };
      gate.acquireTimeout = 0;
      expect = {
        ExecStart = [
          "${
            gatekeeper {
              lock = "job";
              more.acquire-timeout = "0";
            }
          } /bin/job"
        ];
        Type = "oneshot";
        # systemd refuses these for Type=oneshot.
        Restart = null;
        RestartForceExitStatus = null;
        WatchdogSec = null;
        NotifyAccess = "main";
      };
    };
    confined = {
      service = {
        ExecStart = "/bin/daemon";
        RestrictAddressFamilies = [
          "AF_UNIX AF_INET"
          "AF_INET6"
        ];
        IPAddressDeny = "any";
        IPAddressAllow = "10.0.0.0/8";
        TimeoutStopSec = "infinity";
      };
      gate.stopGrace = "1m";
      expect = {
        TimeoutStopSec = "12s";
        RestrictAddressFamilies = [
          "AF_UNIX AF_INET"
          "AF_INET6"
        ];
      };
    };
    overruled = {
      service.ExecStart = "/bin/daemon";
      gate.serviceConfig.WatchdogSec = 0;
      expect.WatchdogSec = 0;
    };
    off = {
      service.ExecStart = "/bin/daemon";
      gate.enable = false;
      expect = {
        ExecStart = "/bin/daemon";
        Type = null;
        KillMode = null;
      };
    };
  };

  config = evaluate [
    {
      networking.hostName = "host";
      services.etcd-await-election = {
        etcd = { inherit endpoints; };
        instances = lib.mapAttrs (_: one: one.settings) instances;
        gate = lib.mapAttrs (_: one: one.gate or { }) gates // {
          scripted.notifyReady = "elected";
          early = { };
        };
      };
      systemd.services = lib.mapAttrs (_: one: { serviceConfig = one.service; }) gates // {
        scripted = {
          script = "exec sleep infinity";
          serviceConfig.ExecStartPost = "/bin/true";
        };
        early.serviceConfig = {
          ExecStart = "/bin/daemon";
          ExecStartPost = "/bin/true";
        };
        bystander.serviceConfig.ExecStart = "/bin/bystander";
      };
    }
    # A second definition that wins over the first, as in any configuration.
    {
      systemd.services.simple.serviceConfig.Type = lib.mkForce "exec";
      systemd.services.early.environment.ADDED = "1";
    }
  ];

  inherit (config.systemd) services;
  asText = value: builtins.toJSON value;

  compare =
    unit: expect:
    lib.concatLists (
      lib.mapAttrsToList (
        key: wanted:
        let
          found = services.${unit}.serviceConfig.${key} or null;
        in
        lib.optional (found != wanted) "${unit}: ${key} is\n  ${asText found}\nand not\n  ${asText wanted}"
      ) expect
    );
  require = what: holds: lib.optional (!holds) what;

  ours = lib.hasPrefix "services.etcd-await-election";
  failed = map (assertion: assertion.message) (
    lib.filter ({ assertion, message }: !assertion && ours message) config.assertions
  );
  warned = lib.filter ours config.warnings;
in
{
  # For systemd-analyze(1): the units as systemd gets them.
  units = lib.genAttrs (map (unit: "${unit}.service") (
    map (name: "etcd-await-election-${name}") (lib.attrNames instances)
    ++ lib.filter (name: gates.${name}.gate.enable or true) (lib.attrNames gates)
  )) (unit: config.systemd.units.${unit}.text);

  wrong =
    lib.concatLists (
      lib.mapAttrsToList (name: one: compare "etcd-await-election-${name}" one.expect) instances
    )
    ++ lib.concatLists (lib.mapAttrsToList (name: one: compare name (one.expect or { })) gates)
    ++ compare "bystander" {
      ExecStart = "/bin/bystander";
      Type = null;
    }
    ++ (
      let
        found = services.renamed.serviceConfig.ExecStart;
        inherit (gates.renamed) begins ends;
      in
      require "renamed: ExecStart is ${found}" (lib.hasPrefix begins found && lib.hasSuffix ends found)
    )
    ++ require "signaled: ExecReload is ${services.signaled.serviceConfig.ExecReload}" (
      lib.hasSuffix "/bin/bash -c 'kill -USR1 $$MAINPID'" services.signaled.serviceConfig.ExecReload
    )
    ++ require "scripted: the script is not behind the gatekeeper" (
      lib.hasPrefix (gatekeeper {
        lock = "scripted";
        ready = "elected";
      }) (toString services.scripted.serviceConfig.ExecStart)
    )
    ++ require "plain: not stopped before the network" (
      lib.elem "network.target" services.etcd-await-election-plain.after
      && lib.elem "network.target" services.simple.after
    )
    ++ require "plain, simple: given up after a few starts" (
      services.etcd-await-election-plain.unitConfig.StartLimitIntervalSec == 0
      && services.simple.unitConfig.StartLimitIntervalSec == 0
    )
    ++ map (message: "refused: ${message}") failed
    ++ require "warnings: ${asText warned}" (
      warned == [
        "services.etcd-await-election.gate.early: the unit's ExecStartPost (postStart) runs as soon as the gatekeeper has started, on a standby, too. With services.etcd-await-election.gate.early.notifyReady = \"elected\" it runs after the command has been started."
        "services.etcd-await-election.gate.graceful: the unit's ExecReload is removed, because it does not signal $MAINPID and could start the service on a standby: set services.etcd-await-election.gate.graceful.serviceConfig.ExecReload to a command that has no effect on a standby."
      ]
    );
}
