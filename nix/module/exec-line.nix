# Command lines in systemd's own syntax (systemd.service(5), "Command lines"): making words for them, and putting a
# command in front of one that somebody else wrote.
{ lib }:
let
  quoted =
    text: if builtins.match "[A-Za-z0-9_./:,@=+%$-]+" text != null then text else builtins.toJSON text;

  # With the prefix ":" systemd expands no variables, and "$$" would stay two characters.
  dollars = expands: text: if expands then lib.replaceStrings [ "$" ] [ "$$" ] text else text;
in
rec {
  # One word in which nothing is expanded.
  literal = text: quoted (lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (toString text));

  # One word in which systemd expands specifiers, as %i and %H, but no variables.
  withSpecifiers = { expands }: text: quoted (dollars expands (toString text));

  # The prefixes of a line, each at most once and in any order, and the rest.
  split =
    line:
    let
      parts = builtins.match "([-@:+!|]*)[[:space:]]*(.*)" line;
    in
    {
      prefixes = lib.head parts;
      command = lib.elemAt parts 1;
    };

  hasPrefix = prefix: line: lib.hasInfix prefix (split line).prefixes;

  # Whether the line holds a second command, which would run without what is put in front of the first.
  hasSeveral = line: builtins.match "(.*[[:space:]])?;([[:space:]].*)?" line != null;

  # `line` with `front` before its command. `front` is a function from how variables are treated to a list of words.
  # What says how to run it (errors ignored, no variables, privileges) goes to the front, which hands privileges on.
  wrap =
    { front, shell }:
    line:
    let
      inherit (split line) prefixes command;
      expands = !lib.hasInfix ":" prefixes;
      # "@" gives the command another name than its path, which a command line after the front cannot say.
      renamed = [
        shell
        "-c"
        (withSpecifiers { inherit expands; } ''path="$0" name="$1"; shift; exec -a "$name" "$path" "$@"'')
      ];
      words = front { inherit expands; } ++ lib.optionals (lib.hasInfix "@" prefixes) renamed;
    in
    "${lib.replaceStrings [ "@" ] [ "" ] prefixes}${lib.concatStringsSep " " words} ${command}";
}
