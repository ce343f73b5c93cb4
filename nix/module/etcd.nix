# Where etcd is and how to log in there. `from` holds the defaults: null for the module's own options, and those for each
# election.
{ lib, from }:
let
  inherit (lib) mkOption types;
  generated = import ./options.nix { inherit lib; };

  # In the Nix store every user of the host can read it.
  secretFile = types.nullOr types.externalPath;
  outside = "This is a string with a path outside of the Nix store.";

  own = {
    endpoints = {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "https://etcd1:2379"
        "https://etcd2:2379"
        "https://etcd3:2379"
      ];
      note = "Each endpoint is an element of the list.";
    };
    discoverySrv.example = "example.org";
    discoverySrvName = {
      type = types.nullOr (types.strMatching "[0-9a-zA-Z_-]{1,46}");
      example = "west";
    };
    clusterId = {
      type = types.nullOr (types.strMatching "(0x)?[0-9a-fA-F]{1,16}");
      example = "3b1f6a9c02d7e845";
    };
    cacertFile.example = "/var/lib/secrets/etcd/ca.pem";
    certFile.example = "/var/lib/secrets/etcd/client.pem";
    keyFile = {
      type = secretFile;
      example = "/var/lib/secrets/etcd/client-key.pem";
      note = outside;
    };
    tlsServerName.example = "etcd.example.org";
    user.example = "web";
    passwordFile = {
      type = secretFile;
      example = "/var/lib/secrets/etcd/password";
      note = outside;
    };
  };

  inherited =
    name: arguments:
    mkOption (
      arguments
      // lib.optionalAttrs (from != null) {
        default = from.${name};
        defaultText = lib.literalExpression "config.services.etcd-await-election.etcd.${name}";
      }
    );
in
lib.listToAttrs (
  map (
    setting: lib.nameValuePair setting.name (inherited setting.name (generated.arguments own setting))
  ) generated.ofEtcd
)
// {
  loadCredentials = inherited "loadCredentials" {
    type = types.bool;
    default = true;
    example = false;
    description = ''
      Whether systemd passes the files to the unit (`LoadCredential=`), so that only root needs to read them. It does so when
      the unit starts: restart the unit after a rotation. With `false` the program reads the files itself each time it connects,
      and the unit's user must be allowed to read them.
    '';
  };
}
