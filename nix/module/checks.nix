# What can be known to be wrong before anything is built: the program would refuse it too, but on the host and later.
# `path` is how the election's options are called, so that each sentence says where to mend it.
{ lib }:
let
  duration = import ./duration.nix { inherit lib; };
  inherit (duration) show toMilliseconds;

  # The longest lease that etcd grants, and the shortest retry that the program allows.
  longestLease = 9000000000 * 1000;
  shortestRetry = 100;

  # The room for SIGKILL before the lease can end, and as much again for the stop signal before it: src/core/timing.rs.
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
      (check wholeSeconds "${path}.leaseDuration (${show lease}) must be whole seconds, at least 1s: etcd grants no parts of a second.")
      (check (lease <= longestLease)
        "${path}.leaseDuration (${show lease}) is longer than etcd's longest lease of ${show longestLease}."
      )
      (check (
        retry >= shortestRetry
      ) "${path}.retryPeriod (${show retry}) must be at least ${show shortestRetry}.")
      (check (
        2 * retry <= renew
      ) "${path}.retryPeriod (${show retry}) must be at most half of renewDeadline (${show renew}): the rest is needed to retry a renewal that fails.")
      # Without a lease there is nothing to say about the room in it.
      (check (!wholeSeconds || renew <= most)
        "${path}.renewDeadline (${show renew}) must be at most ${show most} with leaseDuration ${show lease}: the rest is needed to end the command before the lease can run out."
      )
    ];

  # One of two options that are of no use alone.
  pair =
    path: etcd: one: other:
    check (
      etcd.${one} == null || etcd.${other} != null
    ) "${path}.etcd.${one} is of no use alone: set ${path}.etcd.${other} as well.";

  endpoint =
    { path, usesTls }:
    url: [
      (check (builtins.match "[^,[:space:]]+" url != null)
        "${path}.etcd.endpoints: ${builtins.toJSON url} is no endpoint: write each member as an element of the list, as host:port or a URL."
      )
      (check (!lib.hasInfix "@" url)
        "${path}.etcd.endpoints: an endpoint has a user in it: use etcd.user and etcd.passwordFile instead."
      )
      (check (!(usesTls && lib.hasPrefix "http://" (lib.toLower url)))
        "${path}.etcd.endpoints: ${url} is without TLS, but one of etcd.cacertFile, certFile, keyFile and tlsServerName is set: write https:// or no scheme."
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
        "${path}.etcd.endpoints is empty: list the members of etcd there, or for all elections in services.etcd-await-election.etcd.endpoints."
      )
      (check (etcd.endpoints == [ ] || etcd.discoverySrv == null)
        "${path}.etcd.discoverySrv and endpoints are both set: leave one of them out, as both say where etcd is."
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
      ) "${path}.identity is blank: write a name, or null to have one made up at each start.")
      (check
        (
          settings.statusEndpoint == null
          || builtins.match "[^[:space:]/]*:[0-9]+" settings.statusEndpoint != null
        )
        "${path}.statusEndpoint (${toString settings.statusEndpoint}) must be host:port, or :port for all interfaces."
      )
      (check (!settings.extraEnvironment ? ETCD_AWAIT_ELECTION_PASSWORD)
        "${path}.extraEnvironment has the password, which every user of the host could read there: use ${path}.etcd.passwordFile."
      )
    ]
    ++ timing path settings
    ++ etcdChecks path settings.etcd;
}
