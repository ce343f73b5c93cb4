# The settings of the program as options. Type, default and description come from settings.json, which
# `cargo xtask generate` writes. The modules that use them add what is specific to Nix.
{ lib }:
let
  inherit (lib) mkOption types;
  duration = import ./duration.nix { inherit lib; };

  # Options whose name differs from that of the flag.
  names = {
    lock-name = "lock";
    cacert = "cacertFile";
    cert = "certFile";
    key = "keyFile";
  };
  camelCase =
    flag:
    let
      words = lib.splitString "-" flag;
    in
    lib.head words
    + lib.concatMapStrings (
      word: lib.toUpper (lib.substring 0 1 word) + lib.substring 1 (-1) word
    ) (lib.tail words);

  typeOf =
    setting:
    {
      boolean = types.bool;
      duration = duration.type;
      enum = types.enum setting.values;
      path = types.path;
      string = types.str;
    }
    .${setting.type};

  defaultOf =
    setting:
    if setting.type == "boolean" then
      false
    else if setting.type == "duration" && setting.default != null then
      duration.fromText setting.default
    else
      setting.default;
in
rec {
  # All except the password, which is set by a file.
  settings = map (setting: setting // { name = names.${setting.flag} or (camelCase setting.flag); }) (
    lib.filter (setting: setting.flag != "password") (lib.importJSON ./settings.json)
  );

  ofEtcd = lib.filter (setting: setting.group == "etcd") settings;
  ofElection = lib.filter (setting: setting.group != "etcd") settings;

  # Returns the arguments of `mkOption`. `own` maps the name of an option to other arguments and to a `note`, which is appended
  # to the description.
  arguments =
    own: setting:
    let
      type = typeOf setting;
      more = own.${setting.name} or { };
      note = more.note or null;
    in
    {
      type = if setting.default == null && setting.type != "boolean" then types.nullOr type else type;
      default = defaultOf setting;
    }
    // removeAttrs more [ "note" ]
    // {
      description = setting.description + lib.optionalString (note != null) "\n\n${note}";
    };

  options =
    own: settings:
    lib.listToAttrs (
      map (setting: lib.nameValuePair setting.name (mkOption (arguments own setting))) settings
    );
}
