# Checks of the settings at evaluation; the program would refuse them only on the host. `path` is the path of the election's
# options, which each message begins with.
{ lib }:
let
  duration = import ./duration.nix { inherit lib; };
  inherit (duration) show toMilliseconds;

  # The longest lease that etcd grants, and the shortest retry that the program allows.
  longestLease = 9000000000 * 1000;
  shortestRetry = 100;

  # The time for SIGKILL before the lease can expire. As much again is for the stop signal: src/core/timing.rs.
  margin = lease: lib.min (lease / 20 + 250) (lease / 4);

  check = assertion: message: { inherit assertion message; };

  timing =
    path: settings:
    let
      lease = toMilliseconds settings.leaseDuration;
      renew = toMilliseconds settings.renewDeadline;
      retry = toMilliseconds settings.retryPeriod;
      most = lease - 2 * margin lease;
      wholeSeconds = lease > 0 && lib.mod lease 1000 == 0;
    in
    [
      (check wholeSeconds "${path}.leaseDuration (${show lease}) must be whole seconds, at least 1s: etcd grants leases of whole seconds only.")
      (check (lease <= longestLease)
        "${path}.leaseDuration (${show lease}) is longer than etcd's longest lease of ${show longestLease}."
      )
      (check (
        retry >= shortestRetry
      ) "${path}.retryPeriod (${show retry}) must be at least ${show shortestRetry}.")
      (check (
        2 * retry <= renew
      ) "${path}.retryPeriod (${show retry}) must be at most half of renewDeadline (${show renew}): the rest is needed to retry a renewal that fails.")
      # If the lease itself is not valid, one message is enough.
      (check (!wholeSeconds || renew <= most)
        "${path}.renewDeadline (${show renew}) must be at most ${show most} with leaseDuration ${show lease}: the rest is needed to stop the command before the lease can expire."
      )
    ];

  # An option that requires another one.
  pair =
    path: etcd: one: other:
    check (
      etcd.${one} == null || etcd.${other} != null
    ) "${path}.etcd.${one} requires ${path}.etcd.${other}: set both, or neither.";

  endpoint =
    { path, usesTls }:
    url: [
      (check (builtins.match "[^,[:space:]]+" url != null)
        "${path}.etcd.endpoints: ${builtins.toJSON url} is not a valid endpoint: write each member as an element of the list, as host:port or a URL."
      )
      (check (!lib.hasInfix "@" url)
        "${path}.etcd.endpoints: an endpoint contains a user name: use etcd.user and etcd.passwordFile instead."
      )
      (check (!(usesTls && lib.hasPrefix "http://" (lib.toLower url)))
        "${path}.etcd.endpoints: ${url} does not use TLS, but one of etcd.cacertFile, certFile, keyFile and tlsServerName is set: write https:// or no scheme."
      )
    ];

  etcdChecks =
    path: etcd:
    let
      usesTls =
        etcd.cacertFile != null
        || etcd.certFile != null
        || etcd.keyFile != null
        || etcd.tlsServerName != null;
    in
    [
      (check (etcd.endpoints != [ ] || etcd.discoverySrv != null)
        "${path}.etcd.endpoints is empty: list the members of etcd here, or for all elections in services.etcd-await-election.etcd.endpoints."
      )
      (check (etcd.endpoints == [ ] || etcd.discoverySrv == null)
        "${path}.etcd.discoverySrv and endpoints are both set: set only one of them."
      )
      (pair path etcd "discoverySrvName" "discoverySrv")
      (pair path etcd "certFile" "keyFile")
      (pair path etcd "keyFile" "certFile")
      (pair path etcd "user" "passwordFile")
      (pair path etcd "passwordFile" "user")
    ]
    ++ lib.concatMap (endpoint { inherit path usesTls; }) etcd.endpoints;
in
{
  inherit check margin;

  election =
    path: settings:
    [
      (check (
        builtins.match "[[:space:]]*" settings.lock == null && !lib.hasSuffix "/" settings.lock
      ) "${path}.lock (${builtins.toJSON settings.lock}) must be a name that does not end with a slash.")
      (check (
        builtins.match "(.*/)?~.*" settings.lock == null
      ) "${path}.lock (${builtins.toJSON settings.lock}) must not contain a segment that begins with a tilde.")
      (check (
        settings.identity == null || builtins.match "[[:space:]]*" settings.identity == null
      ) "${path}.identity is blank: write a name, or null for a random one at each start.")
      (check
        (
          settings.statusEndpoint == null
          || builtins.match "[^[:space:]/]*:[0-9]+" settings.statusEndpoint != null
        )
        "${path}.statusEndpoint (${toString settings.statusEndpoint}) must be host:port, or :port for all interfaces."
      )
      (check (!settings.extraEnvironment ? ETCD_AWAIT_ELECTION_PASSWORD)
        "${path}.extraEnvironment contains the password, which every user of the host could read there: use ${path}.etcd.passwordFile."
      )
    ]
    ++ timing path settings
    ++ etcdChecks path settings.etcd;
}
