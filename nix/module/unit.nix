# Puts the gatekeeper in front of a unit: from the `[Service]` section it would have without, to the one it has with it.
# A pure function, so that it does not matter who wrote the unit.
#
# A gatekeeper is the unit's main process, and what the unit says about its main process is meant for the command:
# therefore some of it becomes the gatekeeper's flags, and some is said anew.
{ lib, runtimeShell }:
{
  # How the options are called, for the sentences.
  path,
  # How the unit is called.
  unit,
  program,
  settings,
  # The `[Service]` section without a gatekeeper, as attributes.
  original,
}:
let
  duration = import ./duration.nix { inherit lib; };
  execLine = import ./exec-line.nix { inherit lib; };
  flags = import ./flags.nix { inherit lib; };
  inherit (import ./checks.nix { inherit lib; }) check margin;

  type = original.Type or "simple";
  isOneshot = type == "oneshot";
  # An empty line takes back what stands before it, in the unit file of a package for instance.
  lines = lib.toList (original.ExecStart or [ ]);
  commands = lib.filter (line: line != "") (map toString lines);

  # A reload that is no signal to the main process may start the service on a standby, or signal what an old PID file names.
  reloads = lib.filter (line: line != "") (map toString (lib.toList (original.ExecReload or [ ])));
  reloadIsForwarded = lib.any (lib.hasInfix "MAINPID") reloads;

  # systemd's own default is as good as written in the unit.
  unitsGrace = duration.fromSystemd (original.TimeoutStopSec or original.TimeoutSec or 90);
  known = settings // {
    stopGrace =
      if settings.stopGrace != null then
        settings.stopGrace
      else if unitsGrace != null then
        unitsGrace
      else
        # Refused below.
        90;
    stopSignal =
      if settings.stopSignal != null then settings.stopSignal else original.KillSignal or "TERM";
  };

  lease = duration.toMilliseconds settings.leaseDuration;
  retry = duration.toMilliseconds settings.retryPeriod;

  # How systemd ends the processes of the unit.
  stopping = {
    # The signal goes to all of them. It stops the gatekeeper and means nothing to anybody else: the command is told to end
    # by the guard, and a guard whose gatekeeper was killed is left to end it and to give the lease back. The unit's own is
    # for the command, and the gatekeeper knows it by a flag.
    KillMode = "control-group";
    KillSignal = "SIGURG";

    # For what nobody is left to end, when gatekeeper and guard are both gone: it is over before another host may start. On a
    # stop the gatekeeper asks for as much more as `stopGrace` needs.
    TimeoutStopSec = duration.show (lib.max 1000 (lease - retry - margin lease));
  };

  signalNumbers = {
    HUP = 1;
    INT = 2;
    QUIT = 3;
    KILL = 9;
    USR1 = 10;
    USR2 = 12;
    TERM = 15;
  };
  stopNumber = signalNumbers.${lib.removePrefix "SIG" (toString known.stopSignal)} or null;

  wrapLine =
    line:
    if line == "" then
      line
    else
      execLine.wrap {
        front = flags.words {
          inherit program;
          settings = known;
        };
        shell = runtimeShell;
      } (toString line);

  # A list of words, of which one that begins with "~" forbids instead of allowing.
  families = lib.filter (word: word != "") (
    lib.concatMap (lib.splitString " ") (lib.toList (original.RestrictAddressFamilies or ""))
  );
  forbids = lib.any (lib.hasPrefix "~") families;
  allows =
    family:
    if families == [ ] then
      true
    else if forbids then
      !lib.elem family (map (lib.removePrefix "~") families)
    else
      lib.elem family families;

  isTrue =
    value:
    lib.elem value [
      true
      1
      "1"
      "true"
      "yes"
      "on"
    ];
in
{
  # In the order of the settings' names: what was there, what a gatekeeper needs, what the operator knows better.
  serviceConfig =
    removeAttrs original [
      "RestartKillSignal"
      "ReloadSignal"
    ]
    // {
      ExecStart =
        if lib.isList (original.ExecStart or "") then map wrapLine lines else wrapLine original.ExecStart;

      # `systemctl status` says in words who leads, whatever the type.
      NotifyAccess = "main";

      # systemd would take the process that it names for the unit's main process. An empty line also takes back that of a
      # package's unit file.
      PIDFile = "";

      # The gatekeeper forwards signals to its command. An empty line also takes back that of a package's unit file.
      ExecReload =
        if reloadIsForwarded then
          original.ExecReload
        else if type == "notify-reload" && reloads == [ ] then
          # What systemd would send by itself.
          "${runtimeShell} -c 'kill -${lib.removePrefix "SIG" (original.ReloadSignal or "HUP")} $$MAINPID'"
        else
          "";

      # 128 + the signal, as a shell says it: what a stopped command's exit code is.
      SuccessExitStatus =
        lib.toList (original.SuccessExitStatus or [ ])
        ++ lib.unique ([ 143 ] ++ lib.optional (stopNumber != null) (128 + stopNumber));

      # Settings that cannot be understood stay that way.
      RestartPreventExitStatus = lib.toList (original.RestartPreventExitStatus or [ ]) ++ [ 64 ];
    }
    // stopping
    // lib.optionalAttrs (flags.credentials settings != [ ]) {
      LoadCredential = lib.toList (original.LoadCredential or [ ]) ++ flags.credentials settings;
    }
    // lib.optionalAttrs (!isOneshot) {
      # The gatekeeper says when it is ready, and is alive; what the command would say of itself is not heard.
      Type = "notify";
      # It is fed only while renewals are not overdue. Twice the lease, so that a watchdog is never what ends a leader that
      # could still renew.
      WatchdogSec = 2 * duration.toSeconds settings.leaseDuration;
      # It may be hung, and still have a guard.
      WatchdogSignal = "SIGURG";
      # A host that waits must come back after whatever ended it there.
      Restart =
        let
          restart = original.Restart or "no";
        in
        if
          lib.elem restart [
            "always"
            "on-failure"
          ]
        then
          restart
        else
          "on-failure";
      # After the loss of leadership (79, 80) or of the guard (70), or where the machine has no room (71), too, even where the
      # command's failures are ignored. systemd refuses this line in a unit that runs once.
      RestartForceExitStatus = lib.toList (original.RestartForceExitStatus or [ ]) ++ [
        70
        71
        79
        80
      ];
    }
    // lib.optionalAttrs (settings.notifyReady != "started") { TimeoutStartSec = "infinity"; }
    // settings.serviceConfig;

  assertions = [
    (check (commands != [ ])
      "${path}: systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.ExecStart is not set. If the unit file comes from a package, give its command there as [ \"\" \"/path/to/command arguments\" ]; otherwise check the name."
    )
    (check (lib.length commands <= 1)
      "${path}: the unit has ${toString (lib.length commands)} commands in ExecStart, and the lead would be given away between them: make one script of them."
    )
    (check (!lib.any execLine.hasSeveral commands)
      "${path}: the unit's ExecStart has a second command after a semicolon, which would run without the lead: make one script of them."
    )
    (check (!lib.any (execLine.hasPrefix "|") commands)
      "${path}: the unit's ExecStart has the prefix \"|\", which runs a shell before the gatekeeper: write the shell as the command."
    )
    (check (type != "forking")
      "${path}: the unit is of Type=forking: its command would be taken for ended when its first process is. Let it run in the foreground (many daemons have an option for it), and set systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.Type = lib.mkForce \"exec\"."
    )
    (check ((settings.serviceConfig.PIDFile or "") == "")
      "${path}.serviceConfig.PIDFile must be empty: systemd would take the process that it names for the gatekeeper, and the command could outlive its lock."
    )
    (check (!isTrue (original.RemainAfterExit or false))
      "${path}: the unit has RemainAfterExit=, but the lead is given away when its command ends: run something that lasts as long as the lead is needed."
    )
    (check (settings.stopGrace != null || unitsGrace != null)
      "${path}.stopGrace must be set: the unit's TimeoutStopSec (${
        toString (original.TimeoutStopSec or original.TimeoutSec or "")
      }) is no length of time that can be given to its command."
    )
    (check (!isOneshot || settings.notifyReady != "elected")
      "${path}.notifyReady is of no use for a unit of Type=oneshot: it has started when its command has ended."
    )
    (check (!isTrue (original.PrivateNetwork or false))
      "${path}: the unit has PrivateNetwork=, and the gatekeeper could not reach etcd: set systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.PrivateNetwork = lib.mkForce false."
    )
    (check ((allows "AF_INET" || allows "AF_INET6") && allows "AF_UNIX")
      "${path}: the unit's RestrictAddressFamilies leaves out what the gatekeeper needs: AF_UNIX to tell systemd, AF_INET and AF_INET6 to reach etcd. Add them in systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.RestrictAddressFamilies."
    )
    (check (!(original ? IPAddressDeny) || original ? IPAddressAllow)
      "${path}: the unit has IPAddressDeny=, and the gatekeeper could not reach etcd: list etcd's addresses in systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.IPAddressAllow."
    )
  ];

  warnings =
    lib.optional (reloads != [ ] && !reloadIsForwarded && !settings.serviceConfig ? ExecReload)
      "${path}: the unit's ExecReload is cleared, as it does not signal $MAINPID and may start the service on a standby: set ${path}.serviceConfig.ExecReload to a command that has no effect where the service does not run."
    ++ lib.optional
      (
        !isOneshot
        && settings.notifyReady != "elected"
        && lib.any (line: line != "") (lib.toList (original.ExecStartPost or [ ]))
      )
      "${path}: the unit's ExecStartPost (postStart) runs as soon as the gatekeeper has started, long before its command on a standby. With ${path}.notifyReady = \"elected\" it runs after the command was started."
    ++
      lib.optional (isOneshot && settings.acquireTimeout == null)
        "${path}: the unit is of Type=oneshot: on a standby its start lasts until the command was run on every other host. With ${path}.acquireTimeout = 0 the hosts that come too late give up, with exit code 75.";
}
