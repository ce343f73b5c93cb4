# An election's settings as the program's flags, and as the credentials of its unit.
#
# Flags and not variables: a unit that lost its variables, to a drop-in or a typing error, would run its command with no
# election at all. What stands in ExecStart= is there whenever the command is.
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

  # Said in full, because credentials of the gated unit have names too.
  credential = flag: "etcd-await-election.${flag}";
in
{
  # LoadCredential=
  credentials =
    settings:
    lib.optionals settings.etcd.loadCredentials (
      map (setting: "${credential setting.flag}:${valueOf settings setting}") (files settings)
    );

  # The words before the command. `settings` has a stop grace and a stop signal here, wherever they come from.
  words =
    { program, settings }:
    { expands }:
    let
      # Specifiers are for what differs from host to host.
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
    # Whatever the command looks like, it is the command.
    ++ [ "--" ];
}
