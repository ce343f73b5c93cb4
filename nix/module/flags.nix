# The settings of an election as flags of the program and credentials of its unit.
#
# They are flags because a unit that loses its variables, for example by a drop-in, would run its command without an
# election. Flags are in the same line as the command.
{ lib }:
let
  execLine = import ./exec-line.nix { inherit lib; };

  generated = import ./options.nix { inherit lib; };

  # The value of a setting; null if it is not set.
  valueOf =
    settings: setting:
    let
      value = (if setting.group == "etcd" then settings.etcd else settings).${setting.name};
    in
    if value == [ ] then null else value;

  files =
    settings:
    lib.filter (
      setting: setting.type == "path" && valueOf settings setting != null
    ) generated.settings;

  # With a prefix, as the gated unit can have credentials of its own.
  credential = flag: "etcd-await-election.${flag}";
in
{
  # LoadCredential=
  credentials =
    settings:
    lib.optionals settings.etcd.loadCredentials (
      map (setting: "${credential setting.flag}:${valueOf settings setting}") (files settings)
    );

  # Returns the words before the command. `settings` always has a stop grace and a stop signal here.
  words =
    { program, settings }:
    { expands }:
    let
      # Only these can differ between hosts or instances, so only in these are specifiers expanded.
      expanded = [
        "lock-name"
        "identity"
      ];
      text =
        setting: value:
        if setting.type == "boolean" then
          (if value then "yes" else null)
        else if setting.type == "path" && settings.etcd.loadCredentials then
          "%d/${credential setting.flag}"
        else if lib.elem setting.flag expanded then
          value
        else
          lib.replaceStrings [ "%" ] [ "%%" ] (
            if lib.isList value then lib.concatStringsSep "," value else toString value
          );
      values = lib.listToAttrs (
        map (
          setting:
          let
            value = valueOf settings setting;
          in
          lib.nameValuePair setting.flag (if value == null then null else text setting value)
        ) generated.settings
      );
    in
    [ (execLine.literal program) ]
    ++ lib.mapAttrsToList (
      flag: value: execLine.withSpecifiers { inherit expands; } "--${flag}=${toString value}"
    ) (lib.filterAttrs (_: value: value != null) values)
    # The command may begin with a dash or be named "ctl".
    ++ [ "--" ];
}
