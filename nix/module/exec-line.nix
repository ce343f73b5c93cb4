# Command lines in systemd's syntax (systemd.service(5), "Command lines"): quotes words, and puts a command in front of an
# existing command line.
{ lib }:
let
  quoted =
    text: if builtins.match "[A-Za-z0-9_./:,@=+%$-]+" text != null then text else builtins.toJSON text;

  # With the prefix ":", systemd expands no variables and leaves "$$" unchanged.
  dollars = expands: text: if expands then lib.replaceStrings [ "$" ] [ "$$" ] text else text;
in
rec {
  # Returns one word in which nothing is expanded.
  literal = text: quoted (lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (toString text));

  # Returns one word in which systemd expands specifiers, such as %i and %H, but no variables.
  withSpecifiers = { expands }: text: quoted (dollars expands (toString text));

  # Splits a line into its prefixes and the command.
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

  # Returns whether the line has a second command, which would run without the gatekeeper.
  hasSeveral = line: builtins.match "(.*[[:space:]])?;([[:space:]].*)?" line != null;

  # Puts `front` before the command of `line` and keeps the prefixes. `front` is a function that returns a list of words; its
  # argument says whether systemd expands variables.
  wrap =
    { front, shell }:
    line:
    let
      inherit (split line) prefixes command;
      expands = !lib.hasInfix ":" prefixes;
      # "@" sets argv[0] of the command, which here needs a shell.
      renamed = [
        shell
        "-c"
        (withSpecifiers { inherit expands; } ''path="$0" name="$1"; shift; exec -a "$name" "$path" "$@"'')
      ];
      words = front { inherit expands; } ++ lib.optionals (lib.hasInfix "@" prefixes) renamed;
    in
    "${lib.replaceStrings [ "@" ] [ "" ] prefixes}${lib.concatStringsSep " " words} ${command}";
}
