# How to reach etcd and log in. `from` has the defaults of an election's options; it is null for the options of the module.
{ lib, from }:
let
  inherit (lib) mkOption types;
  generated = import ./options.nix { inherit lib; };

  # Every user of the host can read the Nix store.
  secretFile = types.nullOr types.externalPath;
  outside = "The path is a string and must be outside of the Nix store.";

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
      Whether systemd passes the files to the unit (`LoadCredential=`), so that only root must be able to read them. The unit has
      the files as they were when it started: restart it after a rotation. With `false`, the program reads the files itself each
      time it connects, and the user of the unit must be able to read them.
    '';
  };
}
