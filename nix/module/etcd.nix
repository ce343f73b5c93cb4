# Where etcd is and how to log in there. `from` holds the defaults: null for the module's own options, and those for each
# election.
{ lib, from }:
let
  inherit (lib) mkOption types;
  inherited =
    option: nothing: args:
    mkOption (
      args
      // (
        if from == null then
          { default = nothing; }
        else
          {
            default = from.${option};
            defaultText = lib.literalExpression "config.services.etcd-await-election.etcd.${option}";
          }
      )
    );
  file = types.nullOr types.path;
  # In the Nix store every user of the host can read it.
  secretFile = types.nullOr types.externalPath;
in
{
  endpoints = inherited "endpoints" [ ] {
    type = types.listOf types.str;
    example = [
      "https://etcd1:2379"
      "https://etcd2:2379"
      "https://etcd3:2379"
    ];
    description = ''
      The members of etcd, each as `host:port` or a URL. Without a scheme it is https if any of the TLS options is set,
      else http.
    '';
  };

  discoverySrv = inherited "discoverySrv" null {
    type = types.nullOr types.str;
    example = "example.org";
    description = ''
      Use the members that the SRV records `_etcd-client-ssl._tcp` and `_etcd-client._tcp` of this domain name, instead of
      {option}`endpoints`. If any of the TLS options is set, only the former are used.
    '';
  };

  discoverySrvName = inherited "discoverySrvName" null {
    type = types.nullOr (types.strMatching "[0-9a-zA-Z_-]{1,46}");
    example = "west";
    description = "A suffix of the service in the names of these records: `west` for `_etcd-client-west._tcp`.";
  };

  clusterId = inherited "clusterId" null {
    type = types.nullOr (types.strMatching "(0x)?[0-9a-fA-F]{1,16}");
    example = "3b1f6a9c02d7e845";
    description = ''
      Use only the etcd cluster of this id, in hexadecimal, instead of the one that more than half of the endpoints report.
    '';
  };

  cacertFile = inherited "cacertFile" null {
    type = file;
    example = "/var/lib/secrets/etcd/ca.pem";
    description = "Verify etcd by this CA (PEM) instead of the system's.";
  };

  certFile = inherited "certFile" null {
    type = file;
    example = "/var/lib/secrets/etcd/client.pem";
    description = "The client certificate (PEM); with {option}`keyFile`.";
  };

  keyFile = inherited "keyFile" null {
    type = secretFile;
    example = "/var/lib/secrets/etcd/client-key.pem";
    description = "The key of the client certificate (PEM): a string with a path outside of the Nix store.";
  };

  tlsServerName = inherited "tlsServerName" null {
    type = types.nullOr types.str;
    example = "etcd.example.org";
    description = "The name that etcd's certificate must have, if it is not the endpoint's host.";
  };

  user = inherited "user" null {
    type = types.nullOr types.str;
    example = "web";
    description = "The etcd user; with {option}`passwordFile`.";
  };

  passwordFile = inherited "passwordFile" null {
    type = secretFile;
    example = "/var/lib/secrets/etcd/password";
    description = "A file whose first line is the user's password: a string with a path outside of the Nix store.";
  };

  loadCredentials = inherited "loadCredentials" true {
    type = types.bool;
    example = false;
    description = ''
      Whether systemd hands the files to the unit (`LoadCredential=`), so that they can be root's alone. It does so when
      the unit starts: after a rotation the unit must be started anew. With `false` the program reads the files
      themselves each time it connects, and the unit's user must be allowed to.
    '';
  };
}
