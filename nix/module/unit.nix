# Puts the gatekeeper in front of a unit: a pure function from the `[Service]` section without a gatekeeper to the one with it.
#
# The gatekeeper becomes the main process of the unit. Settings of the unit about its main process are meant for the command;
# some of them become flags of the gatekeeper, and others are replaced.
{ lib, runtimeShell }:
{
  # The path of the options, for messages.
  path,
  # The name of the unit.
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
  # An empty line clears the lines before it, for example those in the unit file of a package.
  lines = lib.toList (original.ExecStart or [ ]);
  commands = lib.filter (line: line != "") (map toString lines);

  # A reload that does not signal the main process could start the service on a standby, or signal the wrong process by an old
  # PID file.
  reloads = lib.filter (line: line != "") (map toString (lib.toList (original.ExecReload or [ ])));
  reloadIsForwarded = lib.any (lib.hasInfix "MAINPID") reloads;

  # 90 seconds is systemd's default.
  unitsGrace = duration.fromSystemd (original.TimeoutStopSec or original.TimeoutSec or 90);
  known = settings // {
    stopGrace =
      if settings.stopGrace != null then
        settings.stopGrace
      else if unitsGrace != null then
        unitsGrace
      else
        # An assertion below refuses this.
        90;
    stopSignal =
      if settings.stopSignal != null then settings.stopSignal else original.KillSignal or "TERM";
  };

  lease = duration.toMilliseconds settings.leaseDuration;
  retry = duration.toMilliseconds settings.retryPeriod;

  # How systemd stops the processes of the unit.
  stopping = {
    # The signal goes to all processes, but only the gatekeeper acts on it. The guard stops the command, and if the gatekeeper
    # was killed, the guard then revokes the lease. The unit's own KillSignal is meant for the command and becomes a flag.
    KillMode = "control-group";
    KillSignal = "SIGURG";

    # This limit counts only if the gatekeeper and the guard have both been killed: it ends before another host may start. For a
    # stop, the gatekeeper asks systemd for the time that `stopGrace` needs.
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

  # A list of address families, which are forbidden if one of them begins with "~", and allowed otherwise.
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
  # Later values replace earlier ones: those of the unit, those that a gatekeeper needs, those that the operator sets.
  serviceConfig =
    removeAttrs original [
      "RestartKillSignal"
      "ReloadSignal"
    ]
    // {
      ExecStart =
        if lib.isList (original.ExecStart or "") then map wrapLine lines else wrapLine original.ExecStart;

      # For the status text in `systemctl status`.
      NotifyAccess = "main";

      # systemd would use the process in this file as the main process of the unit. The empty value also clears the line in the
      # unit file of a package.
      PIDFile = "";

      # The gatekeeper forwards signals to its command. The empty value also clears the line in the unit file of a package.
      ExecReload =
        if reloadIsForwarded then
          original.ExecReload
        else if type == "notify-reload" && reloads == [ ] then
          # What systemd does by itself for this type.
          "${runtimeShell} -c 'kill -${lib.removePrefix "SIG" (original.ReloadSignal or "HUP")} $$MAINPID'"
        else
          "";

      # 128 + n, the exit code of a command that was stopped by signal n.
      SuccessExitStatus =
        lib.toList (original.SuccessExitStatus or [ ])
        ++ lib.unique ([ 143 ] ++ lib.optional (stopNumber != null) (128 + stopNumber));

      # A restart does not correct wrong settings.
      RestartPreventExitStatus = lib.toList (original.RestartPreventExitStatus or [ ]) ++ [ 64 ];
    }
    // stopping
    // lib.optionalAttrs (flags.credentials settings != [ ]) {
      LoadCredential = lib.toList (original.LoadCredential or [ ]) ++ flags.credentials settings;
    }
    // lib.optionalAttrs (!isOneshot) {
      # The gatekeeper sends the notifications; those of the command are ignored.
      Type = "notify";
      # The watchdog is fed only while renewals are not overdue. With twice the lease it never stops a leader that could still
      # renew.
      WatchdogSec = 2 * duration.toSeconds settings.leaseDuration;
      # The guard of a hung gatekeeper still has to stop the command, so it must not be killed.
      WatchdogSignal = "SIGURG";
      # A standby must start again after any failure.
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
      # Also restart after the loss of leadership (79, 80) or of the guard (70), and if the machine has no room (71), even if
      # the unit ignores failures of its command. systemd refuses this line for Type=oneshot.
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
      "${path}: the unit has ${toString (lib.length commands)} commands in ExecStart, and leadership would be handed over between them: combine them into one script."
    )
    (check (!lib.any execLine.hasSeveral commands)
      "${path}: the unit's ExecStart has a second command after a semicolon, which would run without leadership: combine them into one script."
    )
    (check (!lib.any (execLine.hasPrefix "|") commands)
      "${path}: the unit's ExecStart has the prefix \"|\", which starts a shell in place of the gatekeeper: write the shell as the command."
    )
    (check (type != "forking")
      "${path}: the unit is of Type=forking: the command would count as exited as soon as its first process exits. Run it in the foreground (many daemons have an option for that), and set systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.Type = lib.mkForce \"exec\"."
    )
    (check ((settings.serviceConfig.PIDFile or "") == "")
      "${path}.serviceConfig.PIDFile must be empty: systemd would take the process that it names for the gatekeeper, and the command could outlive its lock."
    )
    (check (!isTrue (original.RemainAfterExit or false))
      "${path}: the unit has RemainAfterExit=, but leadership is handed over when its command exits: run a command that does not exit while leadership is needed."
    )
    (check (settings.stopGrace != null || unitsGrace != null)
      "${path}.stopGrace must be set: the unit's TimeoutStopSec (${
        toString (original.TimeoutStopSec or original.TimeoutSec or "")
      }) cannot be used as the stop grace of its command."
    )
    (check (!isOneshot || settings.notifyReady != "elected")
      "${path}.notifyReady has no effect for a unit of Type=oneshot: such a unit has started when its command has exited."
    )
    (check (!isTrue (original.PrivateNetwork or false))
      "${path}: the unit has PrivateNetwork=, and the gatekeeper could not reach etcd: set systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.PrivateNetwork = lib.mkForce false."
    )
    (check ((allows "AF_INET" || allows "AF_INET6") && allows "AF_UNIX")
      "${path}: the unit's RestrictAddressFamilies excludes an address family that the gatekeeper needs: AF_UNIX to notify systemd, AF_INET and AF_INET6 to reach etcd. Add them in systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.RestrictAddressFamilies."
    )
    (check (!(original ? IPAddressDeny) || original ? IPAddressAllow)
      "${path}: the unit has IPAddressDeny=, and the gatekeeper could not reach etcd: list etcd's addresses in systemd.services.${lib.strings.escapeNixIdentifier unit}.serviceConfig.IPAddressAllow."
    )
  ];

  warnings =
    lib.optional (reloads != [ ] && !reloadIsForwarded && !settings.serviceConfig ? ExecReload)
      "${path}: the unit's ExecReload is removed, because it does not signal $MAINPID and could start the service on a standby: set ${path}.serviceConfig.ExecReload to a command that has no effect on a standby."
    ++ lib.optional
      (
        !isOneshot
        && settings.notifyReady != "elected"
        && lib.any (line: line != "") (lib.toList (original.ExecStartPost or [ ]))
      )
      "${path}: the unit's ExecStartPost (postStart) runs as soon as the gatekeeper has started, on a standby, too. With ${path}.notifyReady = \"elected\" it runs after the command has been started."
    ++
      lib.optional (isOneshot && settings.acquireTimeout == null)
        "${path}: the unit is of Type=oneshot: on a standby its start blocks until the command has run on every host ahead in the queue. With ${path}.acquireTimeout = 0 it gives up at once, with exit code 75.";
}
