# An election's settings as the program's flags, and as the credentials of its unit.
#
# Flags and not variables: a unit that lost its variables, to a drop-in or a typing error, would run its command with no
# election at all. What stands in ExecStart= is there whenever the command is.
{ lib }:
let
  execLine = import ./exec-line.nix { inherit lib; };

  files =
    settings:
    lib.filterAttrs (_: file: file != null) {
      cacert = settings.etcd.cacertFile;
      cert = settings.etcd.certFile;
      key = settings.etcd.keyFile;
      password-file = settings.etcd.passwordFile;
    };

  # Said in full, because credentials of the gated unit have names too.
  credential = flag: "etcd-await-election.${flag}";
in
{
  # LoadCredential=
  credentials =
    settings:
    lib.optionals settings.etcd.loadCredentials (
      lib.mapAttrsToList (flag: file: "${credential flag}:${file}") (files settings)
    );

  # The words before the command. `settings` has a stop grace and a stop signal here, wherever they come from.
  words =
    { program, settings }:
    { expands }:
    let
      # Specifiers are for what differs from host to host.
      values = {
        lock-name = settings.lock;
        inherit (settings) identity;
      }
      // lib.mapAttrs (_: text) {
        endpoints =
          if settings.etcd.endpoints == [ ] then null else lib.concatStringsSep "," settings.etcd.endpoints;
        discovery-srv = settings.etcd.discoverySrv;
        discovery-srv-name = settings.etcd.discoverySrvName;
        lease-duration = settings.leaseDuration;
        renew-deadline = settings.renewDeadline;
        retry-period = settings.retryPeriod;
        acquire-timeout = settings.acquireTimeout;
        force-acquire = if settings.forceAcquire then "yes" else null;
        on-loss = settings.onLoss;
        stop-grace = settings.stopGrace;
        stop-signal = settings.stopSignal;
        notify-ready = settings.notifyReady;
        status-endpoint = settings.statusEndpoint;
        cluster-id = settings.etcd.clusterId;
        tls-server-name = settings.etcd.tlsServerName;
        inherit (settings.etcd) user;
        inherit (settings) log;
        log-format = settings.logFormat;
      }
      // lib.mapAttrs (
        flag: file: if settings.etcd.loadCredentials then "%d/${credential flag}" else text file
      ) (files settings);
      text = value: if value == null then null else lib.replaceStrings [ "%" ] [ "%%" ] (toString value);
    in
    [ (execLine.literal program) ]
    ++ lib.mapAttrsToList (
      flag: value: execLine.withSpecifiers { inherit expands; } "--${flag}=${toString value}"
    ) (lib.filterAttrs (_: value: value != null) values)
    # Whatever the command looks like, it is the command.
    ++ [ "--" ];
}
